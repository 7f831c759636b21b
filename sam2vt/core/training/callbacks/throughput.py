"""How many clips a second training takes in."""

from __future__ import annotations

import logging
import time
from typing import Any

import lightning as L

from sam2vt.core.training.position import logs_this_step

log = logging.getLogger(__name__)


class Meter:
    """Clips of all ranks and the seconds they took, waiting for data included, validation not."""

    def __init__(self) -> None:
        self.clips = 0
        self.seconds = 0.0
        self._since: float | None = None

    def start(self) -> None:
        if self._since is None:
            self._since = time.perf_counter()

    def add(self, clips: int) -> None:
        now = time.perf_counter()
        self.seconds += now - (now if self._since is None else self._since)
        self.clips += clips
        self._since = now

    def pause(self) -> None:
        self._since = None

    @property
    def clips_per_second(self) -> float:
        return self.clips / self.seconds if self.seconds else 0.0


class Throughput(L.Callback):
    """Logs `train/clips_per_second` over each logging interval and prints the whole fit's at its end."""

    def __init__(self) -> None:
        self.total = Meter()
        self.interval = Meter()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.total.start()
        self.interval.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        clips = len(batch["video_id"]) * trainer.world_size
        self.total.add(clips)
        self.interval.add(clips)
        if logs_this_step(trainer):
            rate = self.interval.clips_per_second
            pl_module.log("train/clips_per_second", rate, on_step=True, on_epoch=False, batch_size=clips)
            self.interval = Meter()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.total.pause()
        self.interval.pause()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and self.total.clips:
            log.info(
                "%d clips in %.0f s of training: %.2f clips/s",
                self.total.clips,
                self.total.seconds,
                self.total.clips_per_second,
            )
