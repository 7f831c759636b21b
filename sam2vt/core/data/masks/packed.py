"""Masks from the rows of a pack."""

from __future__ import annotations

from typing import Any

import numpy as np

from sam2vt.core.data.masks.label_images import _where
from sam2vt.core.data.masks.rle import segmentation_to_mask
from sam2vt.core.data.packed.reader import place_of, read_masks
from sam2vt.core.types import VideoRecord


def _packed_segmentations(record: VideoRecord, frame_index: int) -> dict[int, tuple[str, list[Any]]]:
    where = str(place_of(record, frame_index))
    objects = read_masks(record, frame_index).objects
    return {key: (where, [_rle(record, counts)]) for key, counts in objects.items()}


def _packed_void(record: VideoRecord, frame_index: int) -> np.ndarray | None:
    counts = read_masks(record, frame_index).void
    if counts is None:
        return None
    where = f"{place_of(record, frame_index)}: {_where(record, frame_index)}, void"
    return segmentation_to_mask(_rle(record, counts), record.height, record.width, where)


def _rle(record: VideoRecord, counts: bytes) -> dict[str, Any]:
    return {"size": [record.height, record.width], "counts": counts}
