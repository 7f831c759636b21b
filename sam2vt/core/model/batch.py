"""Check and pack the batch for the model, and assemble the dict that it returns.

While they are tracked, objects of all clips are packed along one axis; here they leave and return to slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sam2vt.core.model.tracking.frame_call import FrameOutput, GroundTruth
from sam2vt.core.model.tracking.heads import NO_OBJECT_LOGIT, NOT_TRACKED_LOGIT
from sam2vt.core.model.tracking.prompt_inputs import PackedObject
from sam2vt.errors import DataError

IMAGE_TYPES = (torch.uint8, torch.float32, torch.float16, torch.bfloat16)


def check_images(images: Tensor, size: int) -> tuple[int, int]:
    """Return (B, T) of images [B, T, 3, size, size]. Raises DataError for another shape or dtype."""
    if not isinstance(images, Tensor):
        raise DataError(
            f"images: a {type(images).__name__}; needed is a tensor, as torch.from_numpy makes it"
        )
    if images.ndim != 5 or images.shape[2:] != (3, size, size):
        raise DataError(
            f"images: shape {tuple(images.shape)}; needed is [B, T, 3, {size}, {size}] for "
            f"model.image_size {size}"
        )
    if images.dtype not in IMAGE_TYPES:
        raise DataError(f"images: dtype {images.dtype}; uint8, or float32 that is already normalised")
    return images.shape[0], images.shape[1]


def check_features(features: Sequence[Tensor], levels: Sequence[tuple[int, int, int]]) -> tuple[int, int]:
    """Return (B, T) of features, [B, T, C, h, w] for each of the levels (C, h, w). Raises DataError."""
    found = [tuple(level.shape) for level in features]
    if [shape[2:] for shape in found] != list(levels) or len({shape[:2] for shape in found}) != 1:
        raise DataError(
            f"features: shapes {found}; needed are [B, T, C, h, w] with (C, h, w) of {list(levels)}, as "
            "`SAM2Model.keep` gives them of this model"
        )
    return found[0][0], found[0][1]


def check_masks(masks: Tensor | None, valid_masks: Tensor | None, shape: tuple[int, int], size: int) -> None:
    """Raise DataError unless masks are [B, T, N, size, size] and valid_masks [B, T, N]; shape is (B, T)."""
    if masks is not None and (masks.ndim != 5 or masks.shape[:2] != shape or masks.shape[3:] != (size, size)):
        raise DataError(
            f"masks: shape {tuple(masks.shape)}; needed is [{shape[0]}, {shape[1]}, N, {size}, {size}]"
        )
    if valid_masks is not None and masks is not None and valid_masks.shape != masks.shape[:3]:
        raise DataError(
            f"valid_masks: shape {tuple(valid_masks.shape)}; the masks' is {tuple(masks.shape[:3])}"
        )


def from_datapoint(datapoint: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return images [B,T,3,H,W], masks [B,T,N,H,W] and valid_masks [B,T,N] of a `BatchedVideoDatapoint`.

    Its images must be normalised. An object's slot is its place among the objects of its video.
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


def number_of_slots(objects: Sequence[PackedObject], masks: Tensor | None) -> int:
    """Return N, that of the masks if there are any. Raises DataError if a prompt's slot is beyond N."""
    needed = max((packed.slot + 1 for packed in objects), default=0)
    if masks is None:
        return needed
    if needed > masks.shape[2]:
        raise DataError(
            f"prompts: object_index {needed - 1} is given, but masks hold {masks.shape[2]} object slots"
        )
    return masks.shape[2]


def pack_truth(
    objects: Sequence[PackedObject],
    masks: Tensor | None,
    valid_masks: Tensor | None,
    decides_presence: bool,
    clicks: bool,
) -> GroundTruth | None:
    """Return the ground truth of the packed objects from masks [B,T,N,H,W]; None if there is none.

    Its validity is copied to the host only with `clicks`, since that waits for the device.
    """
    if masks is None or not objects:
        return None
    clips = [packed.clip for packed in objects]
    slots = [packed.slot for packed in objects]
    packed_masks = masks[clips, :, slots].transpose(0, 1).bool()
    if valid_masks is None:
        known = torch.ones(packed_masks.shape[:2], dtype=torch.bool, device=masks.device)
    else:
        known = valid_masks[clips, :, slots].transpose(0, 1).bool()
    present = packed_masks.flatten(2).any(dim=2)
    return GroundTruth(packed_masks, known, present, known.tolist() if clicks else [], decides_presence)


def assemble(
    outputs: Sequence[tuple[int, FrameOutput]],
    objects: Sequence[PackedObject],
    shape: tuple[int, int, int],
    size: int,
    device: torch.device,
) -> dict[str, Any]:
    """Return the result of `SAM2Model.forward` from (frame, output) pairs; shape is (B, T, N), size H = W.

    Slots and frames without tracking contain constants: NOT_TRACKED_LOGIT in the masks.
    """
    slots = torch.tensor([(o.clip, o.slot) for o in objects], dtype=torch.long, device=device).reshape(-1, 2)
    index = [_batch_index(frame, output.rows, slots) for frame, output in outputs]
    where = (
        torch.cat(index).unbind(dim=1) if index else (torch.empty(0, dtype=torch.long, device=device),) * 3
    )

    def dense(parts: list[Tensor], *trailing: int, fill: float) -> Tensor:
        full = torch.full((*shape, *trailing), fill, device=device)
        return full.index_put(where, torch.cat(parts).to(full.dtype)) if parts else full

    every = [output for _, output in outputs]
    scored = [torch.full_like(o.rows, o.predicted, dtype=torch.bool) for o in every]
    quarter = size // 4
    return {
        "pred_masks": dense([o.masks for o in every], quarter, quarter, fill=NOT_TRACKED_LOGIT),
        "pred_masks_high_res": dense([o.masks_high_res for o in every], size, size, fill=NOT_TRACKED_LOGIT),
        "iou_predictions": dense([o.ious for o in every], fill=0.0),
        "object_score_logits": dense([o.object_score_logits for o in every], fill=NO_OBJECT_LOGIT),
        "scored": dense(scored, fill=0.0) > 0,
        "steps": [
            replace(step, index=_batch_index(frame, output.rows, slots))
            for frame, output in outputs
            for step in output.steps
        ],
    }


def _batch_index(frame: int, rows: Tensor, slots: Tensor) -> Tensor:
    """Return rows (clip, frame, slot), long [K, 3], of packed objects [K]."""
    clip, slot = slots[rows].unbind(dim=1)
    return torch.stack([clip, torch.full_like(clip, frame), slot], dim=1)
