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


class _Loss(NamedTuple):
    clips: list[str]
    value: torch.Tensor


class _Update(NamedTuple):
    step: int
    losses: list[_Loss]
    norm: torch.Tensor


BadStep = tuple[int, str]  # the step and what was wrong with it


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
        self._clips: list[str] = []
        self._waiting: list[_Loss] = []  # for the next update
        self._updates: list[_Update] = []  # that the host has not looked at
        self._bad: torch.Tensor | None = None  # 1.0 from the first bad update on
        self._error: TrainingError | None = None

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Batch, *_: Any) -> None:
        """Note the clips, to name them should the step be bad."""
        self._clips = [
            f"{video} frames {list(frames)}"
            for video, frames in zip(batch["video_id"], batch["frame_indices"])
        ]

    def on_before_backward(self, trainer: L.Trainer, pl_module: Any, loss: torch.Tensor) -> None:
        """Note the loss, on the device."""
        self._waiting.append(_Loss(self._clips, loss.detach().float()))

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        """Raise the flag where the update is bad, and let the optimizer skip while it is up."""
        losses, self._waiting = self._waiting, []
        norm = gradient_norm(parameters_of(optimizer))
        pl_module.gradient_norm = norm  # clipping needs it next
        update = _Update(trainer.global_step + 1, losses, norm.float())
        self._updates.append(update)
        bad = reduced(trainer, (~_is_sound(trainer, update)).float(), "max")
        self._bad = bad if self._bad is None else torch.maximum(self._bad, bad)
        held, logged = hold_updates(optimizer, self._bad), logs_this_step(trainer)
        if logged or not held:
            self.check(trainer)
        if logged:
            pl_module.log("train/grad_norm", update.norm, on_step=True, on_epoch=False, batch_size=1)

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
        if self._bad is None or not self._updates:
            return
        updates, self._updates = self._updates, []
        numbers = [
            number for item in updates for number in (item.norm, *(loss.value for loss in item.losses))
        ]
        bad, *values = torch.stack([self._bad, *numbers]).tolist()
        if bad:
            bad_steps = _of_all_ranks(trainer, *_bad_steps(updates, values))
            self._error = TrainingError(_message(bad_steps, now=updates[-1].step))
            raise self._error


def _is_sound(trainer: L.Trainer, update: _Update) -> torch.Tensor:
    sound = torch.stack([loss.value for loss in update.losses]).isfinite().all()
    scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
    return sound if scaled else sound & update.norm.isfinite()


def _bad_steps(updates: Sequence[_Update], values: Sequence[float]) -> tuple[list[BadStep], list[BadStep]]:
    """This rank's non-finite losses, and gradients. `values` has per update a norm and the losses."""
    of_losses, of_gradients, rest = [], [], iter(values)
    for update in updates:
        norm = next(rest)
        for loss in update.losses:
            if not math.isfinite(value := next(rest)):
                of_losses.append((update.step, f"loss {value} on {'; '.join(loss.clips)}"))
        if not math.isfinite(norm):
            clips = "; ".join(clip for loss in update.losses for clip in loss.clips)
            of_gradients.append((update.step, f"gradient norm {norm} with a finite loss, on {clips}"))
    return of_losses, of_gradients


def _of_all_ranks(trainer: L.Trainer, of_losses: list[BadStep], of_gradients: list[BadStep]) -> list[BadStep]:
    """The first bad step: the losses of all ranks; where all are finite, the gradients."""
    ranks = gather_objects((of_losses, of_gradients))
    first = min(step for kinds in ranks for bad_steps in kinds for step, _ in bad_steps)
    for kind in range(2):
        found = [
            (step, text if trainer.world_size == 1 else f"rank {rank}: {text}")
            for rank, kinds in enumerate(ranks)
            for step, text in kinds[kind]
            if step == first
        ]
        if found:
            return found
    raise AssertionError("a bad update without a reason")


def _message(bad_steps: Sequence[BadStep], now: int) -> str:
    step = bad_steps[0][0]
    skipped = f"this update and those up to step {now}" if now > step else "this update"
    return (
        f"step {step}: {'; '.join(text for _, text in bad_steps)}. The run stopped without {skipped}, the "
        f"weights are those of step {step - 1}. Look at these clips and their masks, or lower optimizer.lr, "
        f"set trainer.gradient_clip_val, or use trainer.precision=32-true"
    )
