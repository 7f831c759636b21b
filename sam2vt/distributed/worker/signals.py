"""Saving when a group of workers ends from outside: the driver's wish to stop, machines taken away."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import lightning as L
import ray.train
import torch
import torch.distributed as dist

from sam2vt.core.training.callbacks.checkpoints import SaveCheckpoints
from sam2vt.errors import TrainingError

log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0  # between two looks: each costs a broadcast, and a barrier of Ray Train
_MOST_BATCHES = 50  # between two looks, if batches suddenly take longer
_SPARE_SECONDS = 5.0  # that a save must end before a deadline, beside twice the time it takes
_AFTER_DEADLINE_SECONDS = 180.0  # until Ray Train must have replaced this group
_UNKNOWN_DEADLINE_SECONDS = 30.0


class RankZero:
    """Sends numbers from rank 0 to all ranks over the CPU, so that no rank waits for its device.

    Every rank must call `send` equally often.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timedelta(seconds=timeout_seconds)
        self._group: Any = None

    def send(self, values: Sequence[float]) -> list[float]:
        """Return the `values` of rank 0 on every rank."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return list(values)
        if self._group is None:
            self._group = dist.new_group(backend="gloo", timeout=self._timeout)
        numbers = torch.tensor(list(values), dtype=torch.float64)
        dist.broadcast(numbers, src=0, group=self._group)
        return numbers.tolist()


class WatchSignals(L.Callback):
    """Saves and stops on SIGTERM; saves when the end of a machine is announced, and just before it.

    All ranks act at the same step, since saving is a collective operation. They wait between the second
    save and the end: steps that no checkpoint has would be repeated.
    """

    def __init__(self, stop_wished: Callable[[], bool], saver: SaveCheckpoints, rank_zero: RankZero) -> None:
        self._stop_wished, self._saver, self._rank_zero = stop_wished, saver, rank_zero
        self._watches_machines = os.environ.get("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER") != "0"
        self._next_look, self._batches_a_look = 1, 1
        self._looked = time.monotonic()
        self._deadline: float | None = None  # UNIX time
        self._save_seconds = 0.0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look for reasons to stop or save, every few batches."""
        done = trainer.fit_loop.total_batch_idx + 1
        if done < self._next_look:
            return
        stop, ends, batches = self._rank_zero.send([self._stop_wished(), self._must_end(), self._pace()])
        self._next_look = done + int(batches)
        if stop:
            trainer._signal_connector.received_sigterm = True  # Lightning saves and stops at the step's end
            return
        if ends:
            self._save_and_wait(trainer)
        if self._watches_machines:
            self._look_for_announcement(trainer)

    def _pace(self) -> int:
        """Return the batches until the next look, about `_LOOK_SECONDS` later; 1 if a deadline is near."""
        now = time.monotonic()
        seconds, self._looked = max(now - self._looked, 1e-3), now
        pace = self._batches_a_look * _LOOK_SECONDS / seconds
        self._batches_a_look = 1 if self._deadline else int(min(max(pace, 1), _MOST_BATCHES))
        return self._batches_a_look

    def _must_end(self) -> bool:
        if self._deadline is None:
            return False
        return time.time() > self._deadline - _SPARE_SECONDS - 2 * self._save_seconds

    def _look_for_announcement(self, trainer: L.Trainer) -> None:
        info = ray.train.get_preemption_info()  # on every rank, since it is a barrier
        if info is None:
            return
        known = info.deadline_ms
        if self._deadline is not None:
            self._deadline = min(self._deadline, known / 1000) if known else self._deadline
            return
        self._deadline = known / 1000 if known else time.time() + _UNKNOWN_DEADLINE_SECONDS
        self._batches_a_look, self._next_look = 1, 0
        seconds = f"{self._deadline - time.time():.0f} s" if known else "an unknown time"
        log.warning(
            "machines of ranks %s will be taken away in %s: saving at step %d",
            info.preempted_ranks,
            seconds,
            trainer.global_step,
        )
        self._save(trainer)

    def _save_and_wait(self, trainer: L.Trainer) -> None:
        assert self._deadline is not None
        if self._saver.last_saved_step != trainer.global_step:
            self._save(trainer)
        log.warning("saved at step %d, waiting for other machines", trainer.global_step)
        while time.time() < self._deadline + _AFTER_DEADLINE_SECONDS:
            time.sleep(0.5)
        raise TrainingError(
            f"machines of this run were to be taken away {_AFTER_DEADLINE_SECONDS:.0f} s ago and are still "
            "there; the checkpoint is saved, start the run again with resume=auto"
        )

    def _save(self, trainer: L.Trainer) -> None:
        began = time.monotonic()
        self._saver.save(trainer, "preemption")
        self._saver.wait()
        self._save_seconds = time.monotonic() - began
