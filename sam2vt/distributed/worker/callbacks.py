"""Report progress and scores of a worker, and save when its group is ended from outside."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import lightning as L
import ray
import ray.train
import torch
import torch.distributed as dist

from sam2vt.core.evaluation.jf import MONITOR
from sam2vt.core.training.callbacks.checkpoints import SaveCheckpoints
from sam2vt.core.training.callbacks.stopping import end_fit
from sam2vt.core.training.callbacks.throughput import clips_per_second
from sam2vt.core.training.checkpoints.position import logs_this_step, may_save
from sam2vt.core.training.validation import validation_line, validation_metrics
from sam2vt.distributed.board import Status
from sam2vt.errors import TrainingError

log = logging.getLogger(__name__)

_POST_SECONDS = 0.5
_REPORT_SECONDS = 10.0
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


class PostProgress(L.Callback):
    """Posts the progress of rank 0 on the board, and reads the driver's signals from the replies."""

    def __init__(self, board: Any, total_steps: int) -> None:
        self._board, self._total_steps = board, total_steps
        self._posted = 0.0
        self._reply: Any = None
        self._stop = self._saves = self._saves_done = 0

    def signalled(self) -> int:
        """Return the signal that the driver got, else 0; SIGUSR1 once each; 0 on ranks other than 0."""
        self._read()
        if self._stop or self._saves == self._saves_done:
            return self._stop
        self._saves_done = self._saves
        return signal.SIGUSR1

    def _read(self) -> None:
        if self._reply is not None and ray.wait([self._reply], timeout=0)[0]:
            self._stop, self._saves = ray.get(self._reply)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Post the step, with the loss if the step logs it."""
        if not trainer.is_global_zero:
            return
        if logs_this_step(trainer):  # the loggers wait for the device at these steps anyway
            loss = pl_module.update_means.recent_loss
            metrics = {"loss": loss, "clips/s": clips_per_second(trainer)}
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
        self._read()  # the next reply replaces it
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
            self._board.add_validation.remote(row)
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


class WatchSignals(L.Callback):
    """Saves, and stops, on the driver's signals; saves when a machine's end is announced, and just before it.

    All ranks act at the same step, since saving is a collective operation. They wait between the second
    save and the end: steps that no checkpoint has would be repeated.
    """

    def __init__(self, signalled: Callable[[], int], saver: SaveCheckpoints, rank_zero: RankZero) -> None:
        self._signalled, self._saver, self._rank_zero = signalled, saver, rank_zero
        self._must_save = False
        self._watches_machines = os.environ.get("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER") != "0"
        self._next_look, self._batches_a_look = 1, 1
        self._looked = time.monotonic()
        self._deadline: float | None = None  # UNIX time
        self._save_seconds = 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Look for reasons to stop or save, every few batches."""
        self._look(trainer)
        if self._must_save and may_save(trainer):
            self._must_save = False
            self._saver.save(trainer, "signal")

    def _look(self, trainer: L.Trainer) -> None:
        done = trainer.fit_loop.total_batch_idx + 1
        if done < self._next_look:
            return
        number, ends, batches = self._rank_zero.send([self._signalled(), self._must_end(), self._pace()])
        self._next_look = done + int(batches)
        if number == signal.SIGUSR1:
            self._must_save = True
        elif number:
            end_fit(trainer, int(number))
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
        spare = _SPARE_SECONDS + 2 * self._save_seconds
        return self._deadline is not None and time.time() > self._deadline - spare

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
        said = "machines of ranks %s will be taken away in %s: saving at step %d"
        log.warning(said, info.preempted_ranks, seconds, trainer.global_step)
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
