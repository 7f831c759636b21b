"""The packed objects' outputs go back to their slots in the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sam2vt.core.model.tracking.frame_call import FrameOutput
from sam2vt.core.model.tracking.heads import NO_OBJECT_LOGIT
from sam2vt.core.model.tracking.prompt_inputs import PackedObject


def assemble(
    outputs: Sequence[tuple[int, FrameOutput]],
    objects: Sequence[PackedObject],
    shape: tuple[int, int, int],
    size: int,
    device: torch.device,
) -> dict[str, Any]:
    """What `SAM2Model.forward` returns, from (frame, output) pairs; shape is (B, T, N), size is H = W.

    Slots and frames that nothing was predicted for hold a constant.
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
        "pred_masks": dense([o.masks for o in every], quarter, quarter, fill=NO_OBJECT_LOGIT),
        "pred_masks_high_res": dense([o.masks_high_res for o in every], size, size, fill=NO_OBJECT_LOGIT),
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
    """Rows (clip, frame, slot), long [K, 3], of packed objects [K]."""
    clip, slot = slots[rows].unbind(dim=1)
    return torch.stack([clip, torch.full_like(clip, frame), slot], dim=1)
