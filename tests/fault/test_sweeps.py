"""Sweeps with real trials: bad ones, killed ones, a killed driver."""

from __future__ import annotations

import csv
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from sam2vt.composing import compose_config
from sam2vt.configuration.sweep import Sweep, load_sweep
from sam2vt.core.training.callbacks.results_csv import read_rows
from sam2vt.distributed.cluster.session import LOCAL_ENVIRONMENT, sigterm_as_before
from sam2vt.distributed.sweep.launch import run_sweep
from sam2vt.distributed.sweep.results import DONE, FAILED, STOPPED
from tests.fault.limits import START_SECONDS
from tests.fault.processes import processes_below
from tests.fault.runs import overrides_of
from tests.fault.sweeping import (
    BEHIND,
    CRASHED,
    KILLED,
    STEPS,
    SWEPT,
    FaultyTrial,
)
from tests.fault.test_driver import REPO, STOP_SECONDS, Driver, is_running
from tests.fault.trace import wait_until

Figures = Callable[[str], None]
HOPELESS = 1e-9  # learning rate


@pytest.fixture
def wide_ray(tests_for_workers: None) -> Iterator[None]:
    """A Ray of six logical CPUs, as a sweep starts one."""
    with pytest.MonkeyPatch.context() as patch, sigterm_as_before():
        for name, value in LOCAL_ENVIRONMENT.items():
            patch.setenv(name, value)
        ray.init(
            address="local", num_cpus=6, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
        yield
        ray.shutdown()


def sweep_of(videos: Path, folder: Path, *overrides: str) -> Sweep:
    return load_sweep(compose_config(overrides_of(videos, folder / "sweep", *SWEPT, *overrides)))


def test_bad_trials_end_alone(wide_ray: None, videos: Path, tmp_path: Path, figures: Figures) -> None:
    """In one a worker dies, one is killed, one is behind; the default arrives."""
    rates = [2e-3, 1e-3, HOPELESS]  # of trials 1 to 3
    sweep = sweep_of(
        videos,
        tmp_path,
        "sweep.algorithm=grid",
        "sweep.scheduler=asha",
        "sweep.grace=0.5",
        "sweep.reduction=2",
        "model.postprocessing=none",  # stock selects masks, which takes a network of more than six steps
        f"+sweep.space.optimizer.lr={{choice: {rates}}}",
    )
    began = time.monotonic()
    result = run_sweep(sweep, FaultyTrial)
    seconds = time.monotonic() - began
    status = {trial.number: trial.status for trial in result.trials}
    reasons = {trial.number: trial.reason for trial in result.trials}
    assert status == {0: DONE, CRASHED: FAILED, KILLED: FAILED, BEHIND: STOPPED}, reasons
    assert "died" in reasons[CRASHED]
    assert reasons[KILLED].startswith("its process died")
    assert reasons[BEHIND] == "behind the others, ended by sweep.scheduler=asha"
    assert result.trials[BEHIND].steps == STEPS // 2
    assert result.best is not None
    assert result.best.number == 0
    assert len(result.trials) == len(rates) + 1

    wait_until(lambda: not placement_groups(), 30, "placement groups to be given back")
    wait_until(lambda: not runs_alive(), 30, "the trials' actors to end")
    kept = {path.parent.parent.name for path in (tmp_path / "sweep" / "trials").glob("*/checkpoints/*.ckpt")}
    assert kept == {"trial_000"}
    with (tmp_path / "sweep" / "trials.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == [status[n] for n in sorted(status)]
    assert "its process died" in (tmp_path / "sweep" / "sweep.html").read_text()
    figures(f"4 trials in {seconds:.0f} s: 1 done, 1 stopped, 2 failed and told why")


def test_driver_of_a_sweep_is_killed(videos: Path, tmp_path: Path, figures: Figures) -> None:
    """It goes on with the trials that were left; those that had ended are not touched."""
    more = ("sweep.algorithm=random", "sweep.num_trials=3", "sweep.max_concurrent=1", "sweep.scheduler=none")
    more += ("+sweep.space.optimizer.lr={log_uniform: [1.0e-4, 1.0e-3]}", "resume=auto")
    command = [str(REPO / "ray_jobs" / "tune.py"), *overrides_of(videos, tmp_path / "sweep", *SWEPT, *more)]
    trials, first = tmp_path / "sweep" / "trials", Driver(tmp_path / "first", *command)
    try:
        wait_until(lambda: "trial_000 done" in first.log.read_text(), START_SECONDS, "the first trial")
        wait_until(
            lambda: list(trials.glob("trial_001/checkpoints/*.json")), START_SECONDS, "the second trial"
        )
    finally:
        first.end()
    before = ended(tmp_path / "sweep")
    again, second = time.monotonic(), Driver(tmp_path / "second", *command)
    try:
        assert second.wait(START_SECONDS) == 0, second.log.read_text()
    finally:
        second.end()
    assert ended(tmp_path / "sweep") == before
    with (tmp_path / "sweep" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["trial"], row["status"]) for row in rows] == [(f"trial_00{n}", DONE) for n in range(3)]
    steps = [int(row["step"]) for row in read_rows(trials / "trial_001" / "results.csv")]
    assert steps == sorted(set(steps))  # gone on with, not begun anew beside what was there
    figures(f"goes on with 2 of 3 trials, done {time.monotonic() - again:.0f} s after it was started again")


def test_signal_ends_a_sweep(videos: Path, tmp_path: Path, figures: Figures) -> None:
    """In the middle of its first trial, which is not called ended; nothing is left running."""
    more = ("sweep.algorithm=random", "sweep.num_trials=3", "sweep.max_concurrent=1", "trainer.max_steps=500")
    more += ("dataset.clips_per_video=1000", "+sweep.space.optimizer.lr={log_uniform: [1.0e-4, 1.0e-3]}")
    command = [str(REPO / "ray_jobs" / "tune.py"), *overrides_of(videos, tmp_path / "sweep", *SWEPT, *more)]
    driver = Driver(tmp_path / "log", *command)
    try:
        first = tmp_path / "sweep" / "trials" / "trial_000" / "results.csv"
        wait_until(lambda: first.exists() and read_rows(first), START_SECONDS, "the first validation")
        started, asked = [pid for pid, _ in processes_below(driver.process.pid)], time.monotonic()
        driver.process.send_signal(signal.SIGTERM)
        assert driver.wait(STOP_SECONDS) == 143, driver.log.read_text()
        seconds = time.monotonic() - asked
        wait_until(lambda: not any(is_running(pid) for pid in started), 30, "its processes to end")
    finally:
        driver.end()
    said = driver.log.read_text()
    assert "trial_000" not in said
    assert "resume=auto" in said
    assert not (tmp_path / "sweep" / "best").exists()  # it is not over
    figures(f"ended with 143 after {seconds:.0f} s, {len(started)} processes with it")


def ended(sweep: Path) -> dict[str, tuple[float, bytes]]:
    """Time and content of all that the first trial left."""
    files = [sweep / "trials" / "trial_000" / name for name in ("results.csv", "checkpoints/best.ckpt")]
    files += [sweep / "tune" / "trial_000" / "result.json"]
    return {str(path): (path.stat().st_mtime, path.read_bytes()) for path in files}


def placement_groups() -> list[Any]:
    table = ray.util.placement_group_table()
    return [group for group in table.values() if group["state"] != "REMOVED"]


def runs_alive() -> list[str]:
    """Actors of trials and of their runs; Ray keeps some of its own for the next one."""
    own = ("Trial", "TrainController", "RayTrainWorker", "Board", "Cleaner", "MapWorker")
    actors = ray._private.state.actors().values()  # a dashboard may be asked that belongs to another Ray
    names = [actor["ActorClassName"] for actor in actors if actor["State"] != "DEAD"]
    return [name for name in names if any(part in name for part in own)]
