"""Stop before an update that a non-finite loss or gradient would ruin."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import lightning as L
import torch

from sam2vt.core.types import Batch
from sam2vt.errors import TrainingError


class _Seen(NamedTuple):
    clips: list[str]
    loss: torch.Tensor


class StopOnNonFinite(L.Callback):
    """Raises TrainingError before the optimizer steps, naming the step and the clips it was made of.

    Looks at the losses since the last update and at the gradient, with one transfer from the device an
    update. Under fp16 scaling an overflowing gradient is ordinary (the scaler skips that update), so
    only the loss is looked at. Logs `train/grad_norm`, before clipping.
    """

    def __init__(self) -> None:
        self._clips: list[str] = []
        self._seen: list[_Seen] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self._clips = [
            f"{video} frames {list(frames)}"
            for video, frames in zip(batch["video_id"], batch["frame_indices"])
        ]

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: torch.Tensor
    ) -> None:
        self._seen.append(_Seen(self._clips, loss.detach()))

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        seen, self._seen = self._seen, []
        norm = gradient_norm(pl_module)
        values = torch.stack([norm, *(item.loss.float() for item in seen)]).tolist()
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        faults = [
            f"loss {value} on {'; '.join(item.clips)}"
            for item, value in zip(seen, values[1:])
            if not math.isfinite(value)
        ]
        if not faults and not scaled and not math.isfinite(values[0]):
            clips = "; ".join(clip for item in seen for clip in item.clips)
            elsewhere = " (or on another rank's clips: see its message)" if trainer.world_size > 1 else ""
            faults = [f"gradient norm {values[0]} with a finite loss, on {clips}{elsewhere}"]
        if faults:
            raise TrainingError(_message(trainer, faults))
        pl_module.log("train/grad_norm", values[0], on_step=True, on_epoch=False, batch_size=1)


def gradient_norm(module: torch.nn.Module) -> torch.Tensor:
    """Euclidean norm of all gradients, a scalar tensor; they stay as they are."""
    parameters = [p for p in module.parameters() if p.grad is not None]
    if not parameters:
        return torch.zeros((), device=next(module.parameters()).device)
    # An unlimited norm scales by exactly 1.
    return torch.nn.utils.clip_grad_norm_(parameters, float("inf"))


def _message(trainer: L.Trainer, faults: list[Any]) -> str:
    where = f" of rank {trainer.global_rank}" if trainer.world_size > 1 else ""
    return (
        f"step {trainer.global_step + 1}{where}: {'; '.join(faults)}. The run stopped before this update, "
        f"the weights are those of step {trainer.global_step}. Look at these clips and their masks, or lower "
        f"optimizer.lr, set trainer.gradient_clip_val, or use trainer.precision=32-true"
    )
