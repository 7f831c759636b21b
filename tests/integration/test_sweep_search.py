"""Sweeps over a known function, through Ray Tune as real ones go: what the algorithms find, and the codes."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import ray

from sam2vt.composing import compose_config
from sam2vt.configuration.sweep import Sweep, load_sweep
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.distributed.cluster.session import LOCAL_ENVIRONMENT, sigterm_as_before
from sam2vt.distributed.sweep.collect import objectives_of
from sam2vt.distributed.sweep.launch import run_sweep
from sam2vt.distributed.sweep.results import DONE, JF, STOPPED, SweepResult, trial_number
from sam2vt.distributed.sweep.search import search_arguments
from sam2vt.distributed.sweep.trial import OBJECTIVE_KEYS
from sam2vt.errors import ConfigError, TrainingError
from tests.compat.trials import Formula as Paused
from tests.compat.trials import Scored

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

REPO = Path(__file__).resolve().parents[2]
SEEDS, TRIALS = range(10), 24
SPACE = (
    "sweep.space.optimizer.lr={log_uniform: [1.0e-6, 1.0]}",
    "sweep.space.loss.dice_weight={log_uniform: [0.01, 100.0]}",
    "+sweep.space.loss.bce_weight={log_uniform: [0.01, 100.0]}",
)
BASIN = 0.5  # of a function whose peak is 1


def height(values: Mapping[str, float]) -> float:
    """One peak, at lr 1e-3, dice 3, bce 0.3; each axis is a decade wide."""
    away = [
        math.log10(values.get("optimizer.lr", 1e-5)) + 3,
        math.log10(values.get("loss.dice_weight", 1.0)) - 0.5,
        math.log10(values.get("loss.bce_weight", 1.0)) + 0.5,
    ]
    return math.exp(-sum(x * x for x in away))


class Formula(Scored):
    """A trial whose higher scores take longer."""

    height = staticmethod(height)

    def step(self) -> dict[str, Any]:
        row = super().step()
        return {**row, "seconds_per_step": 1 + row[JF], OBJECTIVE_KEYS[1]: 1 + row[JF]}


@pytest.fixture(scope="module", autouse=True)
def running_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, sigterm_as_before():
        for name, value in {**LOCAL_ENVIRONMENT, "PYTHONPATH": str(REPO)}.items():
            patch.setenv(name, value)
        ray.init(
            address="local", num_cpus=6, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "videos"
    write_sample_data(folder, num_videos=1, num_frames=3, size=(48, 64))
    return folder


def sweep_of(folder: Path, algorithm: str, seed: int, *overrides: str) -> Sweep:
    once = ("sweep.max_concurrent=1", "sweep.scheduler=none", "sweep.keep_best=1", *SPACE)
    asked = (f"sweep.num_trials={TRIALS}", f"sweep.algorithm={algorithm}", f"sweep.seed={seed}")
    places = (f"dataset.data_path={folder}", f"output_dir={folder}", "ray.local_cpus=null")
    common = ("experiment=sweep_demo", "sweep=demo", *places)
    return load_sweep(compose_config([*common, *once, *asked, *overrides]))


def swept(videos: Path, folder: Path, *overrides: str) -> SweepResult:
    return run_sweep(sweep_of(folder, "tpe", 0, f"dataset.data_path={videos}", *overrides), Formula)


def searched(sweep: Sweep) -> list[dict[str, Any]]:
    """The values of a sweep's trials, one after the other, each told its height: no trial is run."""
    space, arguments = search_arguments(sweep, objectives_of(sweep))
    if not (searcher := arguments.get("search_alg")):
        return [dict(point["values"]) for point in space["point"]["grid_search"]]
    points = []
    for trial in map(str, range(sweep.settings.num_trials)):
        points.append(searcher.suggest(trial)["point"]["values"])
        result = {OBJECTIVE_KEYS[0]: height(points[-1]), "training_iteration": 1}
        searcher.on_trial_result(trial, result)
        searcher.on_trial_complete(trial, result)
    return points


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Formulas leave no checkpoint to copy."""
    monkeypatch.setattr("sam2vt.distributed.sweep.outputs.download", lambda *_: None)


def best(result: SweepResult) -> float:
    assert result.best is not None
    return result.best.best(result.objectives[0])


def test_the_estimator_finds_the_basin_and_beats_chance(tmp_path: Path) -> None:
    found = {
        name: [max(map(height, searched(sweep_of(tmp_path, name, seed)))) for seed in SEEDS]
        for name in ("tpe", "random")
    }
    means = {name: sum(scores) / len(scores) for name, scores in found.items()}
    print(f"mean best of {TRIALS} trials over {len(SEEDS)} seeds: {means}; {found}")
    assert means["tpe"] > means["random"]
    reached = {name: sum(score > BASIN for score in scores) for name, scores in found.items()}
    assert reached["tpe"] > reached["random"]
    assert reached["tpe"] >= 8


@pytest.mark.parametrize("algorithm", ["tpe", "random"])
def test_tune_tries_what_the_search_suggests(videos: Path, tmp_path: Path, algorithm: str) -> None:
    """So that what holds for the search alone holds for sweeps."""
    result = swept(
        videos, tmp_path / "a", f"sweep.algorithm={algorithm}", "sweep.seed=3", "sweep.num_trials=6"
    )
    alone = searched(sweep_of(tmp_path, algorithm, 3, "sweep.num_trials=6"))
    assert [dict(trial.values) for trial in result.trials] == alone
    assert best(result) == pytest.approx(max(map(height, alone)))


def test_a_seed_gives_the_same_trials_again(videos: Path, tmp_path: Path) -> None:
    runs = [swept(videos, tmp_path / f"{i}", "sweep.num_trials=6", "sweep.seed=5") for i in range(2)]
    first, second = ([(t.number, t.values, t.best(r.objectives[0])) for t in r.trials] for r in runs)
    assert first == second
    assert len(first) == 6
    assert first[0][1] == {}


@pytest.mark.parametrize("scheduler", ["asha", "median"])
def test_a_scheduler_ends_trials_that_are_behind(videos: Path, tmp_path: Path, scheduler: str) -> None:
    result = swept(videos, tmp_path / "a", f"sweep.scheduler={scheduler}", "sweep.num_trials=8")
    status = [trial.status for trial in result.trials]
    assert status[0] == DONE
    assert set(status) == {DONE, STOPPED}
    stopped = [trial for trial in result.trials if trial.status == STOPPED]
    assert {trial.steps for trial in stopped} == {1}
    assert best(result) > max(height(trial.values) for trial in stopped) / 2


def test_a_grid_tries_every_point(videos: Path, tmp_path: Path) -> None:
    axes = (
        "~sweep.space.optimizer",
        "~sweep.space.loss",
        "+sweep.space.optimizer.lr={choice: [1.0e-4, 1.0e-3]}",
        "+sweep.space.loss.dice_weight={choice: [1.0, 3.0]}",
    )
    result = swept(videos, tmp_path / "a", "sweep.algorithm=grid", *axes)
    assert len(result.trials) == 5
    assert result.best is not None
    assert result.best.values == {"optimizer.lr": 1e-3, "loss.dice_weight": 3.0}


def test_two_objectives_leave_a_front(videos: Path, tmp_path: Path) -> None:
    result = swept(
        videos, tmp_path / "a", "sweep.objectives=['val/J&F',seconds_per_step]", "sweep.num_trials=8"
    )
    front = result.pareto()
    assert result.best in front
    assert len(front) == 8  # the better, the slower: here no trial beats another in both
    assert 'id="pareto"' in (tmp_path / "a" / "sweep.html").read_text()
    with (tmp_path / "a" / "trials.csv").open() as file:
        assert all(float(row["seconds_per_step"]) > 1 for row in csv.DictReader(file))


class Inheriting(Paused):
    """A trial whose weights are the number of the trial in which they began; the second is best."""

    def setup(self, config: Mapping[str, Any], job: Any) -> None:  # type: ignore[override]
        self._folder = Path(job.output_dir)
        super().setup(config, job)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._weights = trial_number(self.trial_name)  # the process may have been another trial's
        return super().reset_config(new_config)

    def step(self) -> dict[str, Any]:
        score = (0.5, 0.1, 0.9)[trial_number(self.trial_name)]
        return {**super().step(), JF: score, OBJECTIVE_KEYS[0]: score}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        super().save_checkpoint(checkpoint_dir)
        Path(checkpoint_dir, "weights").write_text(str(self._weights))

    def load_checkpoint(self, checkpoint: Any) -> None:
        super().load_checkpoint(checkpoint)
        self._weights = int(Path(checkpoint, "weights").read_text())
        (self._folder / f"{self.trial_name}.weights").write_text(str(self._weights))


def test_the_worst_goes_on_from_the_weights_of_the_best(videos: Path, tmp_path: Path) -> None:
    """With values near theirs; the others go on from their own. What weights are, is a trial's own test."""
    folder = tmp_path / "a"
    asked = ("sweep.scheduler=pbt", "sweep.num_trials=3", "sweep.perturb_every=0.5")
    sweep = sweep_of(folder, "random", 0, f"dataset.data_path={videos}", *asked)
    result = run_sweep(sweep, Inheriting)
    assert [trial.status for trial in result.trials] == [DONE] * 3
    assert {path.stem: int(path.read_text()) for path in folder.glob("*.weights")} == {
        "trial_000": 0,
        "trial_001": 2,
        "trial_002": 2,
    }
    ours, theirs = (dict(result.trials[number].values) for number in (1, 2))
    assert ours.keys() == theirs.keys()
    assert ours != theirs


def test_a_sweep_that_is_over_is_not_done_again(videos: Path, tmp_path: Path) -> None:
    first = swept(videos, tmp_path / "a", "sweep.num_trials=4")
    again = swept(videos, tmp_path / "a", "sweep.num_trials=4", "resume=auto")
    assert [(t.number, t.values, t.rows) for t in again.trials] == [
        (t.number, t.values, t.rows) for t in first.trials
    ]
    with pytest.raises(ConfigError, match="holds this sweep already"):
        swept(videos, tmp_path / "a", "sweep.num_trials=4")


class Broken(Formula):
    def step(self) -> dict[str, Any]:
        raise TrainingError("step 3: loss nan on video a")


def test_a_sweep_without_a_trial_that_arrived_says_why(videos: Path, tmp_path: Path) -> None:
    places = (f"dataset.data_path={videos}", f"output_dir={tmp_path / 'a'}", "ray.local_cpus=null")
    sweep = load_sweep(compose_config(["experiment=sweep_demo", "sweep=demo", *places, "sweep.num_trials=2"]))
    with pytest.raises(TrainingError, match="no trial ran to its end.*trial_000 failed: step 3: loss nan"):
        run_sweep(sweep, Broken)
    assert os.path.exists(tmp_path / "a" / "trials.csv")


def test_fewer_cpus_than_one_trial_needs(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ray.num_workers=9 x ray.cpus_per_worker=1 \+ .* = 11"):
        swept(videos, tmp_path / "a", "ray.num_workers=9")
