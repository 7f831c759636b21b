"""SAM 2's own batches in our form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
