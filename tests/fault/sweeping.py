"""Trials of a sweep that go wrong."""

from __future__ import annotations

import functools
import os
import signal
from typing import Any

import lightning as L

from sam2vt.distributed.launch import fit
from sam2vt.distributed.sweep import trial
from sam2vt.distributed.sweep.trial import RunTrial

CRASHED, KILLED, BEHIND = 1, 2, 3  # numbers of trials
STEPS = 6

# Beside what makes a run of the fault tests small: two validations, a worker per trial.
SWEPT = (
    "sweep=default",
    "dataset.clips_per_video=20",
    "trainer.max_epochs=1",
    f"trainer.max_steps={STEPS}",
    f"trainer.val_check_interval={STEPS // 2}",
    "trainer.limit_val_batches=1.0",
    "trainer.checkpoint_every_n_steps=null",
    "optimizer.lr=5.0e-4",
    "ray.num_workers=1",
    "ray.local_cpus=6",
)


class FaultyTrial(RunTrial):
    """In one trial the training's process dies, in another the trial's own."""

    def step(self) -> dict[str, Any]:
        number = trial.trial_number(self.trial_name)
        if number == CRASHED:
            trial.fit = functools.partial(fit, train_fn=crash)  # type: ignore[assignment]
        result = super().step()
        if number == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


class Crash(L.Callback):
    """Ends the worker's process without a word, in the middle of its training."""

    def on_train_batch_end(self, *_: Any) -> None:
        os._exit(1)


def crash(job: Any) -> Any:
    """The training of a worker, with a `Crash`."""
    from sam2vt.distributed.worker import entry
    from sam2vt.distributed.worker import training as worker

    default = worker.default_callbacks
    worker.default_callbacks = lambda config: [*default(config), Crash()]  # type: ignore[assignment]
    return entry.train_on_worker(job)
