"""Sweeps over a known function: their state is a real one's, and no trial trains."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from sam2vt.composing import compose_config
from sam2vt.configuration.sweep import Sweep, load_sweep
from sam2vt.distributed.cluster.storage import run_storage
from sam2vt.distributed.launch import with_absolute_paths
from sam2vt.distributed.sweep.collect import final_result
from sam2vt.distributed.sweep.launch import check_earlier, quieten_tune, restored, trial_job, what_is_asked
from sam2vt.distributed.sweep.results import JF
from sam2vt.distributed.sweep.search import DefaultFirst
from sam2vt.distributed.sweep.trial import FINISHED, OBJECTIVE_KEYS
from tests.compat.reading import HERE

# By the folder of each: between them they hold an object of every class that a sweep pickles.
SWEEPS = {
    "asha": ("sweep.scheduler=asha", "sweep.grace=0.4"),
    "median": (
        "sweep.scheduler=median",
        "+sweep.space.loss.focal_weight={log_uniform: [1.0, 40.0], or: 0.0}",
    ),
    "pbt": ("sweep=pbt", "sweep.num_trials=4"),
}
NUM_TRIALS = 6


def made_with() -> dict[str, str]:
    """What reads only those pickled sweeps that the same versions have written, whatever sam2vt does."""
    python = ".".join(map(str, sys.version_info[:2]))
    return {"python": python, "ray": version("ray"), "optuna": version("optuna")}


def sweep_of(name: str, *overrides: str) -> Sweep:
    places = [f"dataset.data_path={HERE}/videos", f"output_dir={HERE}/sweeps/{name}"]
    common = ["experiment=sweep_demo", "sweep=demo", *places, "ray.local_cpus=null"]
    # The experiment's own, when these sweeps were begun.
    common += ["max_objects=3", "dataset.batch_size=1", "dataset.video_clip_length=4"]
    common += ["dataset.max_frame_stride=null", "dataset.prompt_types=[mask]", "scheduler.warmup_steps=20"]
    common += ["trainer.max_steps=60", "trainer.val_check_interval=20"]
    settings = [f"sweep.num_trials={NUM_TRIALS}", "sweep.max_concurrent=1", *SWEEPS[name], *overrides]
    given = [each for each in [*common, *settings] if not (each == "sweep=demo" and "sweep=pbt" in settings)]
    last = {each.partition("=")[0]: each for each in given}
    return load_sweep(compose_config(list(last.values())))


def trials_of(name: str) -> list[Any]:
    """A sweep that was begun, gone on with: of each trial its number, values, status and best score."""
    sweep = sweep_of(name, "resume=auto")
    config = sweep.base.config({})
    storage = run_storage(config)
    assert check_earlier(storage, config, what_is_asked(sweep, config)), f"no sweep {name} was found"
    job = trial_job(sweep, with_absolute_paths(config, storage), storage)
    quieten_tune(config)
    random.seed(0)  # pbt draws from these two
    np.random.seed(0)
    result = final_result(sweep, storage, restored(sweep, job, storage, 1, Formula).fit())
    best = [trial.best(result.objectives[0]) for trial in result.trials]
    return [[t.number, dict(t.values), t.status, score] for t, score in zip(result.trials, best)]


def height(values: Mapping[str, float]) -> float:
    """One peak, at lr 1e-3 and dice 3; each axis is a decade wide."""
    away = [
        math.log10(values.get("optimizer.lr", 1e-4)) + 3,
        math.log10(values.get("loss.dice_weight", 1)) - 0.5,
    ]
    return math.exp(-sum(x * x for x in away))


class Scored(tune.Trainable):
    """A trial of two validations whose scores are `height`'s."""

    height = staticmethod(height)

    def setup(self, config: Mapping[str, Any], job: Any) -> None:  # type: ignore[override]
        self.reset_config(dict(config))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._values, self._steps = new_config["point"]["values"], 0
        return True

    def step(self) -> dict[str, Any]:
        self._steps += 1
        score = self.height(self._values) * self._steps / 2
        row = {"step": self._steps, "progress": self._steps / 2, JF: score, OBJECTIVE_KEYS[0]: score}
        return {**row, **({FINISHED: 1, "done": True} if self._steps == 2 else {})}


class Formula(Scored):
    """One that can be paused, as pbt does."""

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "steps.json").write_text(json.dumps(self._steps))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self._steps = json.loads(Path(checkpoint, "steps.json").read_text())


def suggestions(searcher: DefaultFirst, number: int) -> list[dict[str, Any]]:
    """The points of the next trials, one after the other."""
    points = []
    for i in range(number):
        suggested = searcher.suggest(f"next{i}")
        assert suggested is not None
        points.append(suggested["point"])
        score = height(suggested["point"]["values"])
        result = {OBJECTIVE_KEYS[0]: score, "training_iteration": 1}
        searcher.on_trial_result(f"next{i}", result)
        searcher.on_trial_complete(f"next{i}", result)
    return points
