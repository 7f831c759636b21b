"""Progress: a bar, or lines of the log where none can be drawn."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar

from sam2vt.core.training.callbacks.throughput import Meter, clips_of_all_ranks
from sam2vt.core.training.checkpoints.position import logs_this_step
from sam2vt.core.training.validation import validation_line
from sam2vt.core.types import Batch
from sam2vt.logs import digits

log = logging.getLogger(__name__)

_SECONDS = 15.0  # at least, between two lines of training


class Bar(TQDMProgressBar):
    """Lightning's bar with the loss, a mean over the last updates, and the last J&F.

    Only steps that Lightning logs read the loss, since that waits for the device.
    """

    def __init__(self, refresh_rate: int = 1) -> None:
        super().__init__(refresh_rate)
        self._loss: dict[str, str] = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *rest: Any) -> None:  # type: ignore[override]
        """Read the loss if this step is logged, then draw."""
        if self.is_enabled and logs_this_step(trainer):
            self._loss = {"loss": digits(pl_module.update_means.recent_loss)}
        super().on_train_batch_end(trainer, pl_module, *rest)

    def get_metrics(self, trainer: L.Trainer, pl_module: Any) -> dict[str, Any]:
        """Return what stands beside the bar; Lightning's own has the name of the logger's folder, too."""
        shown = {name: digits(float(value)) for name, value in trainer.progress_bar_metrics.items()}  # type: ignore[arg-type]
        return {**self._loss, **shown}


class LogLines(L.Callback):
    """Logs a few lines per minute (step, loss, clips/s, time left), and one per validation.

    Only on steps that Lightning logs: the loss is read from the device then anyway.
    """

    def __init__(self, seconds: float = _SECONDS) -> None:
        self.meter = Meter()
        self._seconds = seconds
        self._said = float("-inf")

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Start the clock at the first batch."""
        self.meter.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Batch, *rest: Any
    ) -> None:
        """Log a line if one is due."""
        clips = clips_of_all_ranks(trainer, batch)
        self.meter.add(clips)
        now = time.monotonic()
        if not trainer.is_global_zero or not logs_this_step(trainer) or now - self._said < self._seconds:
            return
        self._said = now
        log.info(
            "epoch %d, step %d of %s: loss %s, %s clips/s, %s left",
            *(trainer.current_epoch, trainer.global_step, _total(trainer)),
            *(digits(pl_module.update_means.recent_loss), digits(self.meter.clips_per_second)),
            self._time_left(trainer, clips),
        )

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self.meter.pause()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the validation's scores."""
        if trainer.is_global_zero and not trainer.sanity_checking:
            log.info("%s", validation_line(trainer))

    def _time_left(self, trainer: L.Trainer, clips_per_batch: float) -> str:
        total, rate = trainer.estimated_stepping_batches, self.meter.clips_per_second
        if total == float("inf") or not rate:
            return "unknown time"
        batches = (total - trainer.global_step) * trainer.accumulate_grad_batches
        return str(timedelta(seconds=round(batches * clips_per_batch / rate)))


def _total(trainer: L.Trainer) -> str:
    total = trainer.estimated_stepping_batches
    return "unlimited" if total == float("inf") else str(int(total))
