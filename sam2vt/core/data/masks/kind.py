"""Define the interface of kinds of annotation, the rows of `KINDS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

# Of (segmentation, height, width, where) the mask bool [height, width]; a DataError begins with `where`.
ToMask = Callable[[Any, int, int, str], np.ndarray]


class Part(NamedTuple):
    """Masks of a frame that can fail separately: one file, or one object."""

    place: dict[str, Any]  # "file" and, where the part is one object, "object", for errors
    load: Callable[[], dict[int, np.ndarray]]  # object id -> bool [height, width]


class Kind(NamedTuple):
    """The functions that read one kind of annotation. Each takes (record, frame index, annotation)."""

    load: Callable[[VideoRecord, int, Any], list[Part]]
    void: Callable[[VideoRecord, int, Any], np.ndarray | None] = lambda *_: None  # see `load_void`
    known: Callable[[VideoRecord, int, Any], frozenset[int] | None] = lambda *_: None  # see `known_objects`


def frame_name(record: VideoRecord, frame_index: int) -> str:
    """Return the words that messages use for a frame."""
    return f"video {record.video_id}, frame {frame_index}"


@contextmanager
def naming_frame(record: VideoRecord, frame_index: int) -> Iterator[None]:
    """Add the frame's name to the message of a DataError that the block raises."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{error} ({frame_name(record, frame_index)})", **error.place) from None


def held_void(to_mask: ToMask) -> Callable[[VideoRecord, int, Any], np.ndarray | None]:
    """Return the `void` function of a kind whose annotations contain segmentations of void areas."""

    def void(record: VideoRecord, frame_index: int, annotation: Any) -> np.ndarray | None:
        found = None
        for segmentation in annotation.void:
            where = f"{record.source}: {frame_name(record, frame_index)}, void"
            mask = to_mask(segmentation, record.height, record.width, where)
            found = mask if found is None else found | mask
        return found

    return void


def held_objects(to_mask: ToMask) -> Callable[[VideoRecord, int, Any], list[Part]]:
    """Return the `load` function of a kind whose annotations contain the segmentations of each object."""

    def load(record: VideoRecord, frame_index: int, annotation: Any) -> list[Part]:
        objects = {key: (record.source, each) for key, each in annotation.objects.items()}
        return union_parts(record, frame_index, objects, to_mask)

    return load


def union_parts(
    record: VideoRecord,
    frame_index: int,
    objects: Mapping[int, tuple[str, list[Any]]],
    to_mask: ToMask,
    file: str | None = None,
) -> list[Part]:
    """Return a part per object, whose mask is the union of its segmentations.

    `objects`: object id -> (their place, its segmentations). `file` is the file of all objects, if it differs
    from their place.
    """

    def unite(object_id: int, where: str, segmentations: list[Any]) -> dict[int, np.ndarray]:
        where = f"{where}: {frame_name(record, frame_index)}, object {object_id}"
        mask = np.zeros((record.height, record.width), dtype=bool)
        for segmentation in segmentations:
            mask |= to_mask(segmentation, record.height, record.width, where)
        return {object_id: mask}

    return [
        Part({"file": file or where, "object": key}, partial(unite, key, where, found))
        for key, (where, found) in objects.items()
    ]
