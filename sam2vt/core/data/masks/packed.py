"""The kind `PackedMasks`: compressed RLE in the rows of shards."""

from __future__ import annotations

from typing import Any

import numpy as np

from sam2vt.core.data.masks.kind import Part, frame_name, union_parts
from sam2vt.core.data.masks.rle import segmentation_to_mask
from sam2vt.core.data.packed.reader import place_of, read_masks
from sam2vt.core.types import PackedMasks, VideoRecord


def load(record: VideoRecord, frame_index: int, annotation: PackedMasks) -> list[Part]:
    """Return a part per object."""
    place = place_of(record, frame_index)
    counts = read_masks(record, frame_index).objects
    objects = {key: (str(place), [_rle(record, each)]) for key, each in counts.items()}
    return union_parts(record, frame_index, objects, segmentation_to_mask, file=place.file)


def void(record: VideoRecord, frame_index: int, annotation: PackedMasks) -> np.ndarray | None:
    """Return the void pixels, bool [height, width], or None."""
    counts = read_masks(record, frame_index).void
    if counts is None:
        return None
    where = f"{place_of(record, frame_index)}: {frame_name(record, frame_index)}, void"
    return segmentation_to_mask(_rle(record, counts), record.height, record.width, where)


def known(record: VideoRecord, frame_index: int, annotation: PackedMasks) -> frozenset[int] | None:
    """Return the objects that were known when the frame was packed."""
    return read_masks(record, frame_index).known


def _rle(record: VideoRecord, counts: bytes) -> dict[str, Any]:
    return {"size": [record.height, record.width], "counts": counts}
