"""The kind `ObjectImages`: one binary image per object."""

from __future__ import annotations

from functools import partial

import numpy as np

from sam2vt.core.data.masks.kind import Part, naming_frame
from sam2vt.core.data.masks.labels import Labels, object_values, read_checked, void_pixels
from sam2vt.core.types import ObjectImages, VideoRecord
from sam2vt.errors import DataError


def load(record: VideoRecord, frame_index: int, annotation: ObjectImages) -> list[Part]:
    """Return a part per file."""
    return [
        Part({"file": path, "object": key}, partial(_mask, record, frame_index, key, path))
        for key, path in annotation.paths.items()
    ]


def void(record: VideoRecord, frame_index: int, annotation: ObjectImages) -> np.ndarray | None:
    """Return the pixels that are void in any file, bool [height, width], or None."""
    found = None
    for _, path in sorted(annotation.paths.items()):
        labels = read_checked(record, frame_index, path)
        pixels = void_pixels(labels, object_values(labels, path))
        if pixels is not None:
            found = pixels if found is None else found | pixels
    return found


def known(record: VideoRecord, frame_index: int, annotation: ObjectImages) -> frozenset[int]:
    """Return the objects with a file for the frame; nothing is known about others."""
    return annotation.object_ids()


def _mask(record: VideoRecord, frame_index: int, object_id: int, path: str) -> dict[int, np.ndarray]:
    """Return the one object of a file."""
    labels = read_checked(record, frame_index, path)
    with naming_frame(record, frame_index):
        return {object_id: only_object(labels, path, f"the mask of object {object_id}")}


def only_object(labels: Labels, path: str, what: str) -> np.ndarray:
    """Return the only object of an image, bool [height, width]: all pixels that are neither 0 nor void.

    Raises DataError if there are several; the message calls it `what`.
    """
    objects = object_values(labels, path)
    if len(objects) > 1:
        raise DataError(
            f"{path}: {what} has the values {sorted(objects.values())}; a file that holds one object has one "
            "value besides 0 (and 255 as void)"
        )
    return np.isin(labels.pixels, list(objects.values()))
