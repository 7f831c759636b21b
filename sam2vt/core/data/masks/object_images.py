"""The kind `ObjectImages`: one binary image per object."""

from __future__ import annotations

from functools import partial

import numpy as np

from sam2vt.core.data.masks.kind import Part, frame_name
from sam2vt.core.data.masks.labels import object_values, read_checked, void_pixels
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
    """Return the objects that have a file for the frame; of others nothing is known there."""
    return annotation.object_ids()


def _mask(record: VideoRecord, frame_index: int, object_id: int, path: str) -> dict[int, np.ndarray]:
    """Return the one object of a file: all pixels that are neither 0 nor void."""
    labels = read_checked(record, frame_index, path)
    objects = object_values(labels, path)
    if len(objects) > 1:
        raise DataError(
            f"{path}: the mask of object {object_id} has the values {sorted(objects.values())}; a file that "
            f"holds one object has one value besides 0 (and 255 as void) ({frame_name(record, frame_index)})"
        )
    return {object_id: np.isin(labels.pixels, list(objects.values()))}
