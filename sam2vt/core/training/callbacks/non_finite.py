"""Stop before an update that a non-finite loss or gradient would ruin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import lightning as L
import torch
import torch.distributed as dist

from sam2vt.core.types import Batch
from sam2vt.errors import TrainingError


class _Seen(NamedTuple):
    clips: list[str]
    loss: torch.Tensor


class StopOnNonFinite(L.Callback):
    """Raises TrainingError before the optimizer steps, naming the step and the clips it was made of.

    Looks at the losses since the last update and at the gradient, with one transfer from the device an
    update. Ranks learn of each other's faults and all stop, with the same message. Under fp16 scaling an
    overflowing gradient is ordinary (the scaler skips that update), so only the loss is looked at. Logs
    `train/grad_norm`, before clipping.
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
        losses, norm = torch.stack([item.loss.float() for item in seen]), gradient_norm(pl_module)
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        sound = losses.isfinite().all() if scaled else losses.isfinite().all() & norm.isfinite()
        bad_ranks = _sum_over_ranks(trainer, (~sound).float())
        number_bad, grad_norm, *values = torch.stack([bad_ranks, norm.float(), *losses]).tolist()
        if number_bad:
            raise TrainingError(_message(trainer, _all_faults(trainer, seen, values, grad_norm)))
        pl_module.log("train/grad_norm", grad_norm, on_step=True, on_epoch=False, batch_size=1)


def gradient_norm(module: torch.nn.Module) -> torch.Tensor:
    """Euclidean norm of all gradients, a scalar tensor; they stay as they are."""
    parameters = [p for p in module.parameters() if p.grad is not None]
    if not parameters:
        return torch.zeros((), device=next(module.parameters()).device)
    # An unlimited norm scales by exactly 1.
    return torch.nn.utils.clip_grad_norm_(parameters, float("inf"))


def _sum_over_ranks(trainer: L.Trainer, value: torch.Tensor) -> torch.Tensor:
    return trainer.strategy.reduce(value, reduce_op="sum") if trainer.world_size > 1 else value


def _all_faults(trainer: L.Trainer, seen: Sequence[_Seen], losses: Sequence[float], norm: float) -> list[str]:
    """The losses that are not finite, of all ranks; where all are, the gradient and the clips it is of."""
    clips = "; ".join(clip for item in seen for clip in item.clips)
    gradient = f"gradient norm {norm} with a finite loss, on {clips}"
    of_losses = [
        f"loss {value} on {'; '.join(item.clips)}"
        for item, value in zip(seen, losses)
        if not math.isfinite(value)
    ]
    if trainer.world_size == 1:
        return of_losses or [gradient]
    ranks: list[Any] = [None] * trainer.world_size
    dist.all_gather_object(ranks, (of_losses, gradient))
    named = [f"rank {rank}: {fault}" for rank, (faults, _) in enumerate(ranks) for fault in faults]
    return named or [f"rank {rank}: {fault}" for rank, (_, fault) in enumerate(ranks)]


def _message(trainer: L.Trainer, faults: Sequence[str]) -> str:
    return (
        f"step {trainer.global_step + 1}: {'; '.join(faults)}. The run stopped before this update, "
        f"the weights are those of step {trainer.global_step}. Look at these clips and their masks, or lower "
        f"optimizer.lr, set trainer.gradient_clip_val, or use trainer.precision=32-true"
    )
