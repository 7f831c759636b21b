"""The kind `Segmentations`: COCO's RLE and polygons, held by the record itself."""

from __future__ import annotations

from sam2vt.core.data.masks.kind import Part, union_parts
from sam2vt.core.data.masks.rle import segmentation_to_mask
from sam2vt.core.types import Segmentations, VideoRecord


def load(record: VideoRecord, frame_index: int, annotation: Segmentations) -> list[Part]:
    """Return a part per object."""
    objects = {key: (record.source, each) for key, each in annotation.objects.items()}
    return union_parts(record, frame_index, objects, segmentation_to_mask)
