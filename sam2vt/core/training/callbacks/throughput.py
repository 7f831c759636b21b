"""Throughput of the training, and the share of the time that it waits for data."""

from __future__ import annotations

import logging
import time
from typing import Any

import lightning as L

from sam2vt.core.training.checkpoints.position import logs_this_step
from sam2vt.core.types import Batch
from sam2vt.logs import digits

log = logging.getLogger(__name__)


class Meter:
    """Counts clips of all ranks, frames of this one, and seconds, waits included and validations not."""

    def __init__(self) -> None:
        self.clips = 0.0
        self.frames = 0
        self.seconds = 0.0
        self.waited = 0.0  # of these seconds
        self._since: float | None = None

    def start(self) -> None:
        """Start the clock, unless it runs."""
        if self._since is None:
            self._since = time.perf_counter()

    def add(self, clips: float, frames: int = 0) -> None:
        """Count clips and frames, and the seconds since the clock was read last."""
        now = time.perf_counter()
        self.seconds += now - (now if self._since is None else self._since)
        self.clips += clips
        self.frames += frames
        self._since = now

    def pause(self) -> None:
        """Stop the clock without counting what it shows."""
        self._since = None

    @property
    def clips_per_second(self) -> float:
        """Clips per second of all ranks; 0 before the first."""
        return self.clips / self.seconds if self.seconds else 0.0

    @property
    def frames_per_second(self) -> float:
        """Frames per second of this rank; 0 before the first."""
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def data_wait(self) -> float:
        """Share of the time spent waiting for batches."""
        return self.waited / self.seconds if self.seconds else 0.0


class Throughput(L.Callback):
    """Logs `train/clips_per_second` (all ranks), `train/frames_per_second_per_rank` and `train/data_wait`.

    Each covers a logging interval; those of the whole fit are printed at its end. `data_wait` is the share
    of the time in which rank zero waits for its next batch. The time before the first batch does not
    count: it starts the data pipeline.
    """

    def __init__(self) -> None:
        self.total = Meter()
        self.interval = Meter()
        self._asked = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wrap the loop's fetch hooks: Lightning tells only its profiler when it asks for a batch."""
        loop: Any = trainer.fit_loop.epoch_loop
        before, after = (getattr(type(loop), name) for name in ("_on_before_fetch", "_on_after_fetch"))

        def asks() -> None:
            if self.total.clips:
                self._start()
            self._asked = time.perf_counter()
            before(loop)

        def got() -> None:
            after(loop)
            for meter in (self.total, self.interval) if self.total.clips else ():
                meter.waited += time.perf_counter() - self._asked

        loop._on_before_fetch, loop._on_after_fetch = asks, got

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Start the clock at the first batch."""
        self._start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the batch; log the rates on logged steps."""
        clips, frames = clips_of_all_ranks(trainer, batch), sum(map(len, batch["frame_indices"]))
        self.total.add(clips, frames)
        self.interval.add(clips, frames)
        if logs_this_step(trainer):
            rates = {
                "train/clips_per_second": self.interval.clips_per_second,
                "train/frames_per_second_per_rank": self.interval.frames_per_second,
                "train/data_wait": self.interval.data_wait,
            }
            pl_module.log_dict(rates, on_step=True, on_epoch=False, batch_size=1)
            self.interval = Meter()
            self.interval.start()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self.total.pause()
        self.interval.pause()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the whole fit's rates."""
        if trainer.is_global_zero and self.total.clips:
            log.info(
                "%.0f clips in %.0f s of training: %s clips/s, %s frames/s per rank, %.1f%% of the time "
                "waiting for data",
                *(self.total.clips, self.total.seconds, digits(self.total.clips_per_second)),
                *(digits(self.total.frames_per_second), 100 * self.total.data_wait),
            )

    def _start(self) -> None:
        self.total.start()
        self.interval.start()


def clips_per_second(trainer: L.Trainer) -> float:
    """Return the throughput of all ranks over the training so far; 0 before its first step."""
    meters = (each.total for each in trainer.callbacks if isinstance(each, Throughput))  # type: ignore[attr-defined]
    return next((meter.clips_per_second for meter in meters), 0.0)


def clips_of_all_ranks(trainer: L.Trainer, batch: Batch) -> float:
    """Return how many clips all ranks train on in this batch.

    A mean over the step's batches where blank clips fill up the last ones.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    rounds = getattr(data, "rounds", 1)
    if rounds == 1:
        return len(batch["video_id"]) * trainer.world_size
    return data._clips_per_step() / rounds
