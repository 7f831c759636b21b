"""The kind `LabelImage`: all objects of a frame in one image."""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np

from sam2vt.core.data.masks.codings import Decoded, decode_labels
from sam2vt.core.data.masks.kind import Part, frame_name, naming_frame
from sam2vt.core.data.masks.labels import (
    VOID,
    Labels,
    check_size,
    object_values,
    read_checked,
    read_labels,
    void_pixels,
)
from sam2vt.core.data.masks.palettes import check_palettes
from sam2vt.core.types import LabelImage, VideoRecord
from sam2vt.errors import DataError


def load(record: VideoRecord, frame_index: int, annotation: LabelImage) -> list[Part]:
    """Return one part with all objects: an image that cannot be read shows none of them."""
    return [Part({"file": annotation.path}, partial(_masks, record, frame_index, annotation))]


def void(record: VideoRecord, frame_index: int, annotation: LabelImage) -> np.ndarray | None:
    """Return the void pixels, bool [height, width], or None."""
    if annotation.coding != "ids":
        return _decoded(record, frame_index, annotation).void
    return void_pixels(*_read(record, frame_index, annotation.path))


def known(record: VideoRecord, frame_index: int, annotation: LabelImage) -> frozenset[int] | None:
    """Return the known objects: an object with a marker but without a mask is unknown."""
    if annotation.markers is None:
        return None
    return _decoded(record, frame_index, annotation).known


def _decoded(record: VideoRecord, frame_index: int, annotation: LabelImage) -> Decoded:
    with naming_frame(record, frame_index):
        check_size(record, annotation.path)
        return decode_labels(record, annotation)


def _read(record: VideoRecord, frame_index: int, path: str) -> tuple[Labels, dict[int, int]]:
    """Return an image of ids, and object id -> pixel value."""
    labels = read_checked(record, frame_index, path)
    check_palettes(record, frame_index, labels.palette, (0, *labels.values))
    # Only then 255 can mean either, and the first mask has to be read.
    alone = labels.values == (VOID,) and not labels.coloured
    with naming_frame(record, frame_index):
        return labels, object_values(labels, path, _is_binary(record) if alone else None)


def _masks(record: VideoRecord, frame_index: int, annotation: LabelImage) -> dict[int, np.ndarray]:
    if annotation.coding != "ids":
        return _decoded(record, frame_index, annotation).masks
    labels, objects = _read(record, frame_index, annotation.path)
    strange = sorted(set(objects) - set(record.object_ids)) if record.object_ids is not None else []
    if strange:
        raise DataError(
            f"{annotation.path}: shows object {strange[0]}, which {record.object_list or 'the record'} "
            f"does not list ({frame_name(record, frame_index)}); add it there or correct the mask",
            object=strange[0],
        )
    return {key: labels.pixels == value for key, value in objects.items()}


def _is_binary(record: VideoRecord) -> bool:
    """Return whether 255 is the object of this video: its first annotated frame has no other id."""
    first = record.annotations[min(record.annotations)]
    return _values(first.files()[0]) in ((), (VOID,))


# Every frame of a video asks for its first mask.
@lru_cache(maxsize=4096)
def _values(path: str) -> tuple[int, ...]:
    return read_labels(path).values
