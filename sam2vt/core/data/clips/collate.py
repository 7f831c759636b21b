"""Clips to a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sam2vt.core.types import Batch, Clip
from sam2vt.errors import DataError


def collate_fn(batch: Sequence[Clip]) -> Batch:
    """Stacks clips; objects are padded to the largest clip's number, without mask and not valid.

    What has no shape (prompts, ids, sizes) stays a list over B. Raises DataError where clips differ in
    length or size.
    """
    shapes = {_shape(clip) for clip in batch}
    if len(shapes) != 1:
        found = ", ".join(f"{clip['video_id']} {list(_shape(clip))}" for clip in batch)
        raise DataError(f"clips of one batch must have one shape [T, 3, H, W], got: {found or 'no clip'}")
    num_slots = max(clip["masks"].shape[1] for clip in batch)
    collated: Batch = {
        "masks": torch.stack([_pad_slots(clip["masks"], num_slots) for clip in batch]),
        "valid_masks": torch.stack([_pad_slots(clip["valid_masks"], num_slots) for clip in batch]),
        "prompts": [clip["prompts"] for clip in batch],
        "video_id": [clip["video_id"] for clip in batch],
        "frame_indices": [clip["frame_indices"] for clip in batch],
        "object_ids": [clip["object_ids"] for clip in batch],
        "original_size": [clip["original_size"] for clip in batch],
        "num_objects": [clip["num_objects"] for clip in batch],
    }
    if "features" in batch[0]:
        collated["features"] = [torch.stack(level) for level in zip(*(clip["features"] for clip in batch))]
    else:
        collated["images"] = torch.stack([clip["images"] for clip in batch])
    quarantined = [clip["quarantined"] for clip in batch if "quarantined" in clip]
    if quarantined:
        collated["quarantined"] = quarantined
    return collated


def _shape(clip: Clip) -> tuple[int, ...]:
    """Of its images, or of its finest features."""
    return tuple((clip["features"][0] if "features" in clip else clip["images"]).shape)


def _pad_slots(tensor: torch.Tensor, num_slots: int) -> torch.Tensor:
    """[T, N, ...] -> [T, num_slots, ...], filled up with False."""
    padded = tensor.new_zeros((tensor.shape[0], num_slots, *tensor.shape[2:]))
    padded[:, : tensor.shape[1]] = tensor
    return padded
