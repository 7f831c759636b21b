"""Rank 0's side of the progress display, and what Ray Train is told of a run."""

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
from sam2vt.distributed.board import Status
from sam2vt.distributed.worker.signals import RankZero

_POST_SECONDS = 0.5
_REPORT_SECONDS = 10.0
_SHOWN = ("val/loss", "val/J", "val/F", "val/J&F", "val/J_hold_first")
log = logging.getLogger(__name__)


class PostProgress(L.Callback):
    """Posts where the run stands, and takes the driver's wish to stop from the replies."""

    def __init__(self, board: Any, total_steps: int) -> None:
        self._board, self._total_steps = board, total_steps
        self._posted = 0.0
        self._reply: Any = None
        self._stop = False

    def stop_wished(self) -> bool:
        """On rank 0; false on others."""
        if self._reply is not None and ray.wait([self._reply], timeout=0)[0]:
            self._stop = self._stop or ray.get(self._reply)
        return self._stop

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_global_zero:
            return
        if logs_this_step(trainer):  # where the device is waited for anyway
            metrics = {"loss": float(outputs["loss"]), "clips/s": clips_per_second(trainer)}
            self._post(trainer, {"phase": "training", "metrics": metrics})
        elif time.monotonic() - self._posted >= _POST_SECONDS:
            self._post(trainer, {"phase": "training"})

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self._post(trainer, {"phase": "validating"})

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        values = {
            name: float(trainer.callback_metrics[name]) for name in _SHOWN if name in trainer.callback_metrics
        }
        log.info(
            "step %d: %s",
            trainer.global_step,
            ", ".join(f"{name} {value:.4f}" for name, value in values.items()),
        )
        shown = {"J&F": values["val/J&F"]} if "val/J&F" in values else {}
        self._post(trainer, {"phase": "training", "metrics": shown})

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self._post(trainer, {"phase": "drawing and exporting"})

    def _post(self, trainer: L.Trainer, status: Status) -> None:
        self.stop_wished()  # before its reply is replaced
        rounds = trainer.datamodule.rounds  # type: ignore[attr-defined]
        done = trainer.fit_loop.epoch_loop.batch_progress.total.ready // rounds
        self._posted = time.monotonic()
        self._reply = self._board.post.remote({**status, "step": done, "total_steps": self._total_steps}, [])


class ReportMetrics(L.Callback):
    """Tells a validation's numbers to the board, from which a sweep reads them, and to Ray Train.

    To the latter at most once in `_REPORT_SECONDS`: each report is a barrier and takes up to seconds.
    Checkpoints are not reported, they lie in the run's own store.
    """

    def __init__(self, rank_zero: RankZero, board: Any) -> None:
        self._rank_zero, self._board = rank_zero, board
        self._reported = float("-inf")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
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
    """Numbers of this validation, where the run stands in its sequence of clips, and how fast it is."""
    metrics = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val/")}
    metrics.setdefault(MONITOR, 0.0)
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
    """Over the training so far, all ranks together; 0 before its first step."""
    meters = [callback.total for callback in trainer.callbacks if isinstance(callback, Throughput)]  # type: ignore[attr-defined]
    return meters[0].clips_per_second if meters else 0.0
