"""Callbacks that report a run: its progress to the driver, its validations to sweeps and Ray Train."""

from __future__ import annotations

import logging
import time
from typing import Any

import lightning as L
import ray
import ray.train

from sam2vt.core.evaluation.jf import MONITOR
from sam2vt.core.training.callbacks.throughput import Throughput
from sam2vt.core.training.checkpoints.position import logs_this_step
from sam2vt.core.training.validation import validation_line, validation_metrics
from sam2vt.distributed.board import Status
from sam2vt.distributed.worker.signals import RankZero

_POST_SECONDS = 0.5
_REPORT_SECONDS = 10.0
log = logging.getLogger(__name__)


class PostProgress(L.Callback):
    """Posts the progress of rank 0 on the board, and reads the driver's wish to stop from the replies."""

    def __init__(self, board: Any, total_steps: int) -> None:
        self._board, self._total_steps = board, total_steps
        self._posted = 0.0
        self._reply: Any = None
        self._stop = False

    def stop_wished(self) -> bool:
        """Return whether the driver wants the run to stop; false on ranks other than 0."""
        if self._reply is not None and ray.wait([self._reply], timeout=0)[0]:
            self._stop = self._stop or ray.get(self._reply)
        return self._stop

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Post the step, with the loss where a step logs it."""
        if not trainer.is_global_zero:
            return
        if logs_this_step(trainer):  # the loggers wait for the device at these steps anyway
            metrics = {"loss": float(outputs["loss"]), "clips/s": clips_per_second(trainer)}
            self._post(trainer, {"phase": "training", "metrics": metrics})
        elif time.monotonic() - self._posted >= _POST_SECONDS:
            self._post(trainer, {"phase": "training"})

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Post that a validation runs."""
        if trainer.is_global_zero:
            self._post(trainer, {"phase": "validating"})

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the scores, and post the one that decides."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        log.info("%s", validation_line(trainer))
        scores = validation_metrics(trainer)
        shown = {"J&F": scores[MONITOR]} if MONITOR in scores else {}
        self._post(trainer, {"phase": "training", "metrics": shown})

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Post that the last phase begins, in which no step is done."""
        if trainer.is_global_zero:
            self._post(trainer, {"phase": "drawing and exporting"})

    def _post(self, trainer: L.Trainer, status: Status) -> None:
        self.stop_wished()  # reads the last reply, which the next one replaces
        rounds = trainer.datamodule.rounds  # type: ignore[attr-defined]
        done = trainer.fit_loop.epoch_loop.batch_progress.total.ready // rounds
        self._posted = time.monotonic()
        self._reply = self._board.post.remote({**status, "step": done, "total_steps": self._total_steps}, [])


class ReportMetrics(L.Callback):
    """Reports the numbers of each validation to the board, from which a sweep reads them, and to Ray Train.

    Ray Train gets at most one report per `_REPORT_SECONDS`: each is a barrier that takes up to seconds.
    Checkpoints are not reported; they are in the run's own store.
    """

    def __init__(self, rank_zero: RankZero, board: Any) -> None:
        self._rank_zero, self._board = rank_zero, board
        self._reported = float("-inf")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report on all ranks, or on none of them."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        row = report_metrics(trainer)
        if trainer.is_global_zero:
            self._board.validated.remote(row)
        now = time.monotonic()
        (due,) = self._rank_zero.send([now - self._reported >= _REPORT_SECONDS])
        if due:
            self._reported = now
            ray.train.report(row)


def report_metrics(trainer: L.Trainer) -> dict[str, float]:
    """Return the numbers of this validation, the position in the run's clips, and the throughput."""
    metrics = validation_metrics(trainer)
    metrics.setdefault(MONITOR, 0.0)  # a sweep's scheduler needs the objective in every row
    metrics["step"] = trainer.global_step
    metrics["progress"] = min(1.0, trainer.global_step / max(1.0, float(trainer.estimated_stepping_batches)))
    position = trainer.datamodule.state_dict()  # type: ignore[attr-defined]
    metrics.update({name: position[name] for name in ("epoch", "clips", "samples_seen")})
    rate = metrics["clips_per_second"] = clips_per_second(trainer)
    if rate:
        batches = trainer.accumulate_grad_batches / position["rounds"]
        metrics["seconds_per_step"] = position["clips_per_step"] * batches / rate
    return metrics


def clips_per_second(trainer: L.Trainer) -> float:
    """Return the throughput of all ranks over the training so far; 0 before its first step."""
    meters = [callback.total for callback in trainer.callbacks if isinstance(callback, Throughput)]  # type: ignore[attr-defined]
    return meters[0].clips_per_second if meters else 0.0
