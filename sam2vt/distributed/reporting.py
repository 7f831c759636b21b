"""Rank 0's side of the progress display."""

from __future__ import annotations

import logging
import time
from typing import Any

import lightning as L
import ray
import torch
import torch.distributed

from sam2vt.distributed.checkpointing import clips_per_second
from sam2vt.distributed.progress import BoardHandler, Status

_POST_SECONDS = 0.5
_ASK_EVERY = 5
_SHOWN = ("val/loss", "val/J", "val/F", "val/J&F", "val/J_hold_first")
log = logging.getLogger(__name__)


class PostProgress(L.Callback):
    """Posts where the run stands, and takes the driver's wish to stop for a SIGTERM.

    All ranks learn of the wish at the same step, since saving is a collective operation. That takes a
    broadcast and a wait for the device, so they ask on every `_ASK_EVERY`-th batch of the run only.
    """

    def __init__(self, board: Any, total_steps: int) -> None:
        self._board, self._total_steps = board, total_steps
        self._posted = 0.0
        self._reply: Any = None
        self._stop = False

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.is_global_zero and time.monotonic() - self._posted >= _POST_SECONDS:
            metrics = {"loss": float(outputs["loss"]), "clips/s": clips_per_second(trainer)}
            self._post(trainer, {"phase": "training", "metrics": metrics})
        asks = (trainer.fit_loop.total_batch_idx + 1) % _ASK_EVERY == 0  # the same on every rank
        if asks and self._any_rank_stops(trainer):
            trainer._signal_connector.received_sigterm = True

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
        self._take_wish()
        done = trainer.fit_loop.epoch_loop.batch_progress.total.ready
        self._posted = time.monotonic()
        self._reply = self._board.post.remote({**status, "step": done, "total_steps": self._total_steps}, [])

    def _take_wish(self) -> None:
        if self._reply is not None and ray.wait([self._reply], timeout=0)[0]:
            self._stop = self._stop or ray.get(self._reply)

    def _any_rank_stops(self, trainer: L.Trainer) -> bool:
        if trainer.world_size == 1:
            return self._stop
        flag = torch.tensor([self._stop], dtype=torch.uint8, device=trainer.strategy.root_device)
        torch.distributed.broadcast(flag, src=0)
        return bool(flag.item())


def send_logs(board: Any, log_level: str) -> None:
    """Show this process's log lines of the package on the driver."""
    logger = logging.getLogger("sam2vt")
    logger.setLevel(log_level)
    logger.propagate = False  # Ray's own handlers would write them a second time
    logger.handlers = [BoardHandler(board)]
