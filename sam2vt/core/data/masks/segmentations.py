"""Masks from COCO segmentations, SA-V masklets and Supervisely figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from sam2vt.core.data.masks.label_images import _where
from sam2vt.core.data.masks.masklets import Masklets, number_objects, read_masklets
from sam2vt.core.data.masks.rle import segmentation_to_mask
from sam2vt.core.data.masks.supervisely import FIGURE, figure_to_mask
from sam2vt.core.types import MaskletFrame, Segmentations, VideoRecord
from sam2vt.errors import DataError


def _segmentations(
    record: VideoRecord, annotation: Segmentations | MaskletFrame
) -> dict[int, tuple[str, list[Any]]]:
    """Object id -> the file that has its segmentations, and these."""
    if isinstance(annotation, Segmentations):
        return {key: (record.source, each) for key, each in annotation.objects.items()}
    files = [read_masklets(path) for path in annotation.paths]
    found = ((file.path, [mask]) for file in files for mask in _masklets_of(file, annotation.place))
    return dict(zip(number_objects(files), found))


def _is_figure(segmentation: Any) -> bool:
    return isinstance(segmentation, dict) and FIGURE in segmentation


def _masklets_of(file: Masklets, place: int) -> list[dict[str, Any]]:
    if place >= len(file.frames):
        raise DataError(
            f"{file.path}: annotates {len(file.frames)} frames, not the one of place {place}: the file has "
            "changed; read the dataset anew",
            file=file.path,
        )
    return file.frames[place]


def _united(
    record: VideoRecord, frame_index: int, object_id: int, path: str, segmentations: list[Any]
) -> dict[int, np.ndarray]:
    where = f"{path}: {_where(record, frame_index)}, object {object_id}"
    mask = np.zeros((record.height, record.width), dtype=bool)
    for segmentation in segmentations:
        read = figure_to_mask if _is_figure(segmentation) else segmentation_to_mask
        mask |= read(segmentation, record.height, record.width, where)
    return {object_id: mask}
