"""Non-finite losses and gradients: they update no weight, and the run stops soon after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import lightning as L
import torch
from torch.optim import Optimizer

from sam2vt.core.training.checkpoints.position import logs_this_step
from sam2vt.core.training.optim import gradient_norm, hold_updates, parameters_of
from sam2vt.core.training.ranks import gather_objects, reduced
from sam2vt.core.types import Batch
from sam2vt.errors import TrainingError

BadValue = tuple[int, int, str]  # step, kind and what was wrong with it
# Loss first: where a step has a bad one, its gradients are bad as a consequence.
_TEXTS = ("loss {} on {}", "gradient norm {} with a finite loss, on {}")


class _Value(NamedTuple):
    """A loss or a gradient norm, still on the device."""

    step: int
    kind: int  # index in `_TEXTS`
    clips: str
    value: torch.Tensor


class StopOnNonFinite(L.Callback):
    """Skips every update from the first bad one on; raises TrainingError at the next logged step.

    The device decides by itself, so that no step waits for it: a flag, joined over the ranks, tells the
    optimizer to leave the weights and its own state alone. The host reads the flag on logged steps, before
    a checkpoint or a validation, and at the end. All ranks then stop with the same message, which names
    the bad step and its clips. So weights that a bad step might have touched are never stored. With an
    optimizer that cannot skip on the device the host reads the flag before every update.

    Under fp16 scaling an overflowing gradient is ordinary (the scaler skips that update), so only the loss
    is checked. Logs `train/grad_norm`, before clipping.
    """

    def __init__(self) -> None:
        self._clips = ""  # of the batch
        self._waiting: list[_Value] = []  # losses for the next update
        self._seen: list[_Value] = []  # of updates that the host has not looked at
        self._bad: torch.Tensor | None = None  # 1.0 from the first bad update on
        self._error: TrainingError | None = None

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Batch, *_: Any) -> None:
        """Note the clips, to name them should the step be bad."""
        named = zip(batch["video_id"], batch["frame_indices"])
        self._clips = "; ".join(f"{video} frames {list(frames)}" for video, frames in named)

    def on_before_backward(self, trainer: L.Trainer, pl_module: Any, loss: torch.Tensor) -> None:
        """Note the loss, on the device."""
        self._waiting.append(_Value(trainer.global_step + 1, 0, self._clips, loss.detach().float()))

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        """Raise the flag where the update is bad, and let the optimizer skip while it is up."""
        losses, self._waiting = self._waiting, []
        norm = gradient_norm(parameters_of(optimizer))
        pl_module.gradient_norm = norm  # clipping needs it next
        clips = "; ".join(loss.clips for loss in losses)
        update = [*losses, _Value(trainer.global_step + 1, 1, clips, norm.float())]
        self._seen += update
        # Under fp16 scaling an overflowing gradient is ordinary: the scaler skips that update.
        checked = losses if getattr(trainer.precision_plugin, "scaler", None) is not None else update
        is_sound = torch.stack([each.value for each in checked]).isfinite().all()
        bad = reduced(trainer, (~is_sound).float(), "max")
        self._bad = bad if self._bad is None else torch.maximum(self._bad, bad)
        held, logged = hold_updates(optimizer, self._bad), logs_this_step(trainer)
        if logged or not held:
            self.check(trainer)
        if logged:
            pl_module.log("train/grad_norm", norm.float(), on_step=True, on_epoch=False, batch_size=1)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check before a validation of the fit."""
        if trainer.state.fn == "fit":
            self.check(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, *_: Any) -> None:
        """Check before anything is stored."""
        self.check(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the last updates."""
        self.check(trainer)

    def check(self, trainer: L.Trainer) -> None:
        """Raise TrainingError if any update since the last call was bad; every rank must take part.

        Costs one transfer from the device, or none where nothing was trained since.
        """
        if self._error is not None:
            raise self._error
        if self._bad is None or not self._seen:
            return
        seen, self._seen = self._seen, []
        bad, *values = torch.stack([self._bad, *(each.value for each in seen)]).tolist()
        if bad:
            found = [
                (each.step, each.kind, _TEXTS[each.kind].format(value, each.clips))
                for each, value in zip(seen, values)
                if not math.isfinite(value)
            ]
            self._error = TrainingError(_message(gather_objects(found), now=seen[-1].step))
            raise self._error


def _message(ranks: Sequence[Sequence[BadValue]], now: int) -> str:
    """Name the first bad step: the losses of all ranks; where all are finite, the gradients."""
    step, kind = min(bad[:2] for found in ranks for bad in found)
    texts = [
        text if len(ranks) == 1 else f"rank {rank}: {text}"
        for rank, found in enumerate(ranks)
        for *place, text in found
        if place == [step, kind]
    ]
    skipped = f"this update and those up to step {now}" if now > step else "this update"
    return (
        f"step {step}: {'; '.join(texts)}. The run stopped without {skipped}, the "
        f"weights are those of step {step - 1}. Look at these clips and their masks, or lower optimizer.lr, "
        f"set trainer.gradient_clip_val, or use trainer.precision=32-true"
    )
