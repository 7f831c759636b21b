"""Refuses what is given to the model in shapes that do not fit it, or each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sam2vt.errors import DataError

IMAGE_TYPES = (torch.uint8, torch.float32, torch.float16, torch.bfloat16)


def check_images(images: Tensor, size: int) -> tuple[int, int]:
    """(B, T) of images [B, T, 3, size, size]. Raises DataError."""
    if images.ndim != 5 or images.shape[2:] != (3, size, size):
        raise DataError(
            f"images: shape {tuple(images.shape)}; needed is [B, T, 3, {size}, {size}] for "
            f"model.image_size {size}"
        )
    if images.dtype not in IMAGE_TYPES:
        raise DataError(f"images: dtype {images.dtype}; uint8, or float32 that is already normalised")
    return images.shape[0], images.shape[1]


def check_features(features: Sequence[Tensor], levels: Sequence[tuple[int, int, int]]) -> tuple[int, int]:
    """(B, T) of features, [B, T, C, h, w] for each of the levels (C, h, w). Raises DataError."""
    found = [tuple(level.shape) for level in features]
    if [shape[2:] for shape in found] != list(levels) or len({shape[:2] for shape in found}) != 1:
        raise DataError(
            f"features: shapes {found}; needed are [B, T, C, h, w] with (C, h, w) of {list(levels)}, as "
            "`SAM2Model.keep` gives them of this model"
        )
    return found[0][0], found[0][1]


def check_masks(masks: Tensor | None, valid_masks: Tensor | None, shape: tuple[int, int], size: int) -> None:
    """Those of clips of `shape`, (B, T). Raises DataError."""
    if masks is not None and (masks.ndim != 5 or masks.shape[:2] != shape or masks.shape[3:] != (size, size)):
        raise DataError(
            f"masks: shape {tuple(masks.shape)}; needed is [{shape[0]}, {shape[1]}, N, {size}, {size}]"
        )
    if valid_masks is not None and masks is not None and valid_masks.shape != masks.shape[:3]:
        raise DataError(
            f"valid_masks: shape {tuple(valid_masks.shape)}; the masks' is {tuple(masks.shape[:3])}"
        )


def from_datapoint(datapoint: Any) -> tuple[Tensor, Tensor, Tensor]:
    """SAM 2's `BatchedVideoDatapoint` as images [B,T,3,H,W], masks [B,T,N,H,W] and valid_masks [B,T,N].

    Its images are taken as normalised. An object's slot is its place among its video's objects.
    """
    images = datapoint.img_batch.transpose(0, 1)
    video_of = datapoint.obj_to_frame_idx[0, :, 1].tolist()
    counts = [0] * images.shape[0]
    places = []
    for video in video_of:
        places.append(counts[video])
        counts[video] += 1
    num_frames, _, height, width = datapoint.masks.shape
    masks = torch.zeros(
        (images.shape[0], num_frames, max(counts), height, width), dtype=torch.bool, device=images.device
    )
    valid = torch.zeros(masks.shape[:3], dtype=torch.bool, device=images.device)
    masks[video_of, :, places] = datapoint.masks.transpose(0, 1).bool()
    valid[video_of, :, places] = True
    return images, masks, valid
