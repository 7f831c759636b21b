"""Progress as lines of the log, for where no progress bar can be drawn."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

import lightning as L

from sam2vt.core.training.callbacks.throughput import Meter, clips_of_all_ranks
from sam2vt.core.training.checkpoints.position import logs_this_step
from sam2vt.core.types import Batch

log = logging.getLogger(__name__)

_SECONDS = 15.0  # at least, between two lines of training


class LogLines(L.Callback):
    """A line now and then (step, loss, clips/s, time left), and one a validation.

    Lines come with steps that are logged, where the loss is read anyway, and a few a minute at most.
    """

    def __init__(self, seconds: float = _SECONDS) -> None:
        self.meter = Meter()
        self._seconds = seconds
        self._said = float("-inf")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.meter.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        clips = clips_of_all_ranks(trainer, batch)
        self.meter.add(clips)
        now = time.monotonic()
        if not trainer.is_global_zero or not logs_this_step(trainer) or now - self._said < self._seconds:
            return
        self._said = now
        log.info(
            "epoch %d, step %d of %s: loss %.4f, %.2f clips/s, %s left",
            trainer.current_epoch,
            trainer.global_step,
            _total(trainer),
            float(outputs["loss"]),
            self.meter.clips_per_second,
            self._time_left(trainer, clips),
        )

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.meter.pause()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        metrics = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val/")}
        shown = ("val/loss", "val/J", "val/F", "val/J&F", "val/J_hold_first")
        values = ", ".join(f"{name} {metrics[name]:.4f}" for name in shown if name in metrics)
        log.info("step %d: %s", trainer.global_step, values)

    def _time_left(self, trainer: L.Trainer, clips_per_batch: float) -> str:
        total, rate = trainer.estimated_stepping_batches, self.meter.clips_per_second
        if total == float("inf") or not rate:
            return "unknown time"
        batches = (total - trainer.global_step) * trainer.accumulate_grad_batches
        return str(timedelta(seconds=round(batches * clips_per_batch / rate)))


def _total(trainer: L.Trainer) -> str:
    total = trainer.estimated_stepping_batches
    return "unlimited" if total == float("inf") else str(int(total))
