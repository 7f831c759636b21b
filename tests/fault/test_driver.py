"""The driver ends, by a signal or without a word, and the job is submitted again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam2vt.core.training.checkpoints.store import CheckpointStore
from tests.fault.limits import START_SECONDS
from tests.fault.processes import processes_below
from tests.fault.runs import CLIPS_A_STEP, GATE, WHOLE, assert_same_result, final_state, overrides_of
from tests.fault.trace import Log, wait_until

pytestmark = pytest.mark.usefixtures("tests_for_workers")

Figures = Callable[[str], None]
REPO = Path(__file__).resolve().parents[2]
STOP_SECONDS = 60


class Driver:
    """A driver in a process of its own, with a Ray of its own."""

    def __init__(self, log: Path, *command: str) -> None:
        self.log = log
        environment = {**os.environ, "PYTHONPATH": str(REPO)}
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, *command],
                stdout=stream,
                stderr=stream,
                env=environment,
                start_new_session=True,
            )

    def wait(self, seconds: float) -> int:
        return self.process.wait(seconds)

    def end(self) -> None:
        started = [pid for pid, _ in processes_below(self.process.pid)]
        self.process.kill()
        self.process.wait()
        for pid in started:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def test_driver_is_killed_and_submitted_again(
    videos: Path, tmp_path: Path, reference: Any, figures: Figures
) -> None:
    log, run = Log(tmp_path / "trace"), tmp_path / "run"
    command = ["-m", "tests.fault.drive", str(log.folder), str(GATE)]
    command += overrides_of(videos, run, *WHOLE, "resume=auto")
    first = Driver(tmp_path / "first", *command)
    try:
        wait_until(
            lambda: log.groups() and log.groups()[0].waiting(), START_SECONDS, "the workers at the gate"
        )
        workers = [log.groups()[0].pid(rank) for rank in range(2)]
        killed = time.time()
        first.process.kill()
        wait_until(lambda: not any(is_running(pid) for pid in workers), 60, "its workers to end")
        gone = time.time() - killed
    finally:
        first.end()
    log.open_all()
    again = time.time()
    second = Driver(tmp_path / "second", *command)
    try:
        assert second.wait(START_SECONDS) == 0, second.log.read_text()
    finally:
        second.end()
    assert log.repeats() == [1]
    assert log.committed() == reference.clips
    assert_same_result(final_state(run), reference.state)
    figures(
        f"workers gone after {gone:.0f} s; submitted again: steps repeated 1, next step after "
        f"{log.seconds_until_a_step(again):.0f} s"
    )


@pytest.mark.parametrize(
    ("number", "code"),
    [
        # SIGTERM, by which jobs are stopped, is seen where they are submitted.
        (signal.SIGINT, 130),  # Ctrl-C in a terminal
        (signal.SIGHUP, 129),  # a closed terminal
    ],
)
@pytest.mark.usefixtures("hangups")
def test_signal_saves_and_ends(
    number: signal.Signals,
    code: int,
    videos: Path,
    tmp_path: Path,
    figures: Figures,
) -> None:
    """Sent to all that the driver started. The run goes on where it stopped."""
    run, more = tmp_path / "run", ("dataset.clips_per_video=1000", "trainer.max_epochs=1")
    command = [str(REPO / "ray_jobs" / "train.py"), *overrides_of(videos, run, *more, "resume=auto")]
    driver, store = Driver(tmp_path / "log", *command), CheckpointStore(str(run / "checkpoints"))
    try:
        wait_until(
            lambda: re.search(r"training, step [1-9]", driver.log.read_text()), START_SECONDS, "a step"
        )
        os.killpg(driver.process.pid, signal.SIGUSR1)
        saved = "a save for SIGUSR1"
        wait_until(lambda: [each for each in store.manifests() if each.reason == "signal"], 60, saved)
        asked = time.time()
        os.killpg(driver.process.pid, number)
        assert driver.wait(STOP_SECONDS) == code, driver.log.read_text()
        seconds = time.time() - asked
    finally:
        driver.end()
    newest = store.newest()
    assert newest is not None
    assert newest.samples_seen == CLIPS_A_STEP * newest.step
    assert newest.reason == number.name.lower()
    assert f"{number.name}: step {newest.step} saved" in driver.log.read_text()
    figures(f"saved step {newest.step} and ended with {code} after {seconds:.0f} s")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
