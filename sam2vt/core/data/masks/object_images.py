"""Masks from one binary image per object."""

from __future__ import annotations

import numpy as np

from sam2vt.core.data.masks.label_images import _read_checked, _where, object_values
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError


def _object_mask(record: VideoRecord, frame_index: int, object_id: int, path: str) -> dict[int, np.ndarray]:
    """The one object of a file: whatever is neither 0 nor void."""
    labels = _read_checked(record, frame_index, path)
    objects = object_values(labels, path)
    if len(objects) > 1:
        raise DataError(
            f"{path}: the mask of object {object_id} has the values {sorted(objects.values())}; a file that "
            f"holds one object has one value besides 0 (and 255 as void) ({_where(record, frame_index)})"
        )
    return {object_id: np.isin(labels.pixels, list(objects.values()))}
