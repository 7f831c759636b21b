"""Run one trial: a run of the configuration with other values, whose validations Ray Tune reads."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import Any

import ray
from ray import tune

from sam2vt.config import Config
from sam2vt.configuration.sweep import BaseConfig
from sam2vt.core.storage.folder import Folder, download
from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.distributed.board import start_board
from sam2vt.distributed.cluster.ray_trainer import abort_run
from sam2vt.distributed.cluster.session import RAY_ENVIRONMENT
from sam2vt.distributed.cluster.storage import RunStorage, run_storage
from sam2vt.distributed.launch import fit
from sam2vt.distributed.sweep.results import Objective, trial_name, trial_number
from sam2vt.errors import TrainingError

FINISHED = "finished"  # key in the result of a trial that ran to its end
OBJECTIVE_KEYS = ("objective", "objective_2")  # the objectives' names in Tune
WEIGHTS = "weights.ckpt"
TAKEN_WEIGHTS = "inherited.ckpt"  # in a trial's folder; sweeps that are resumed know it by this name

_POLL_SECONDS = 0.5
_SAVE_SECONDS = 120.0  # within which the checkpoint of a validation must be stored


@dataclass(frozen=True)
class TrialJob:
    """The arguments that all trials of a sweep share."""

    base: BaseConfig
    output_dir: str  # of the sweep
    storage_path: str | None  # above the trials' folders, if not in `output_dir`
    objectives: tuple[Objective, ...]
    passes_weights: bool = False  # each validation leaves a checkpoint that another trial may take over
    tracking: Mapping[str, Any] = field(default_factory=dict)  # settings of the loggers

    def values(self, number: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a trial that differ from the base: the swept values and its places."""
        name = trial_name(number)
        places = {
            "output_dir": os.path.join(self.output_dir, "trials", name),
            "resume": "auto",  # a trial that Tune runs once more resumes
            "ray.storage_path": self.storage_path,
            "ray.name": name if self.storage_path else None,
            "trainer.enable_progress_bar": False,
        }
        return {**values, **places, **self.tracking}

    def config(self, number: int, values: Mapping[str, Any]) -> Config:
        """Return the checked configuration of a trial. Raises ConfigError if the values conflict."""
        return self.base.config(self.values(number, values))


class RunTrial(tune.Trainable):
    """The process of a trial: it starts the run, and each step returns the next validation."""

    def setup(self, config: Mapping[str, Any], job: TrialJob) -> None:  # type: ignore[override]
        """Make the configuration of the trial; the run starts with the first step."""
        for name, value in RAY_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._config = job.config(trial_number(self.trial_name), config["point"]["values"])
        self._run_storage = run_storage(self._config)
        self._reporter = Reporter(job.objectives, best_so_far=not job.passes_weights)
        self._run: Run | None = None
        self._newest: dict[str, Any] = {}

    def step(self) -> dict[str, Any]:
        """Wait for the next validation and return its numbers; at the run's end the last ones, done."""
        self._run = self._run or Run(self._config, self._run_storage)
        row = self._run.next_validation()
        if row is not None:
            self._newest = self._reporter.result(row)
            return self._newest
        if not self._newest:
            raise TrainingError(
                "ended without a validation after its first step: there is nothing to compare"
            )
        return {**self._newest, FINISHED: 1, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save the weights of the newest validation, for another trial or for this one after a pause."""
        store = CheckpointStore(self._run_storage.checkpoints)
        step, until = int(self._newest["step"]), time.monotonic() + _SAVE_SECONDS
        # A validation is posted before its checkpoint is stored, which a thread does meanwhile.
        while not (found := [manifest for manifest in store.manifests() if manifest.step == step]):
            if time.monotonic() > until:
                raise TrainingError(
                    f"step {step} was not stored within {_SAVE_SECONDS:.0f} s of its validation"
                )
            time.sleep(_POLL_SECONDS)
        download(store.path(found[-1]), Path(checkpoint_dir) / WEIGHTS)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Begin the next run from the weights that `save_checkpoint` wrote."""
        self._config = take_over(self._config, self._run_storage, Path(checkpoint) / WEIGHTS)

    def cleanup(self) -> None:
        """End the run, if Tune stops the trial before it."""
        if self._run is not None:
            self._run.end()


class Run:
    """A run in a thread of this process, which reads its validations from the board."""

    def __init__(self, config: Config, storage: RunStorage) -> None:
        self._board, self._began, self._seen = start_board(), time.monotonic(), 0
        self._waiting: list[dict[str, float]] = []
        self._fitting: Future[Any] = Future()
        Thread(target=self._fit, args=(config, storage), name="fit", daemon=True).start()

    def next_validation(self) -> dict[str, float] | None:
        """Wait for the next validation after a step and return its numbers; None if the run has ended.

        Raises the error that ended it.
        """
        while True:
            over = self._fitting.done()  # before reading: a row may be posted in between
            self._waiting += self._validations()
            if self._waiting:
                return self._waiting.pop(0)
            if over:
                self._fitting.result()
                return None
            time.sleep(_POLL_SECONDS)

    def end(self) -> None:
        """Release the resources of the run, if it has not ended."""
        if not self._fitting.done():
            abort_run(self._board)

    def _validations(self) -> list[dict[str, float]]:
        rows = ray.get(self._board.get_validations.remote(self._seen))
        self._seen += len(rows)
        seconds = time.monotonic() - self._began
        # The model before any step is no result of a trial.
        return [{**row, "seconds": seconds} for row in rows if row["step"] > 0]

    def _fit(self, config: Config, storage: RunStorage) -> None:
        try:
            self._fitting.set_result(fit(config, board=self._board, storage=storage))
        except BaseException as error:
            self._fitting.set_exception(error)


class Reporter:
    """Adds the objectives under Tune's names to the numbers of a validation."""

    def __init__(self, objectives: tuple[Objective, ...], best_so_far: bool) -> None:
        self._objectives, self._best_so_far = objectives, best_so_far
        self._best: dict[str, float] = {}

    def result(self, row: Mapping[str, float]) -> dict[str, Any]:
        """Return the row with its objectives; scores are the best so far, as is the kept checkpoint."""
        found = {}
        for metric, objective in zip(OBJECTIVE_KEYS, self._objectives):
            value, best = row.get(objective.name, math.nan), self._best.get(metric, math.nan)
            if self._best_so_far and objective.name.startswith("val/") and objective.better(best, value):
                value = best
            self._best[metric] = found[metric] = value
        return {**row, **found}


def take_over(config: Config, storage: RunStorage, weights: Path) -> Config:
    """Return the configuration of a run that resumes from `weights`, a checkpoint of this or another trial.

    The trial's own checkpoints are deleted: it no longer resumes from them.
    """
    import torch

    from sam2vt.core.training.checkpoints.restoring import taken_over

    Folder(storage.checkpoints).delete()
    content = torch.load(weights, weights_only=True, map_location="cpu")
    with tempfile.TemporaryDirectory() as temporary:
        local = Path(temporary) / TAKEN_WEIGHTS
        torch.save(taken_over(content, config), local)
        storage.folder().upload(local, local.name)
    return replace(config, resume=storage.join(TAKEN_WEIGHTS))
