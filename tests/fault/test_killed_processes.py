"""A decoder dies, a rank hangs: the run recovers, and ends with the weights of an undisturbed one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam2vt.distributed.launch import fit
from tests.fault.limits import START_SECONDS
from tests.fault.runs import GATE, STEPS, WHOLE, assert_same_result, config_of, final_state, meanwhile, traced
from tests.fault.trace import Log, wait_until

pytestmark = pytest.mark.usefixtures("local_ray")

Figures = Callable[[str], None]
HELD_ROW = 10  # of 24


def assert_recovered(log: Log, run: Path, fault: float, reference: Any, figures: Figures) -> None:
    assert log.committed() == reference.clips
    assert_same_result(final_state(run), reference.state)
    figures(
        f"steps repeated {log.repeated()}, next step after {log.seconds_until_a_step(fault):.0f} s, "
        f"{len(log.groups())} groups of workers"
    )


def test_a_decode_actor_is_killed(
    videos: Path,
    tmp_path: Path,
    reference: Any,
    figures: Figures,
    hold_decoders: Callable[..., Any],
) -> None:
    """While the workers wait for it: no worker is started again, and no clip comes twice."""
    log, held, fault = Log(tmp_path / "trace"), hold_decoders(HELD_ROW), []

    def strike() -> None:
        wait_until(lambda: held.reached(HELD_ROW), START_SECONDS, "the decoder at its gate")
        fault.append(time.time())
        [(pid, _)] = held.reached(HELD_ROW)
        os.kill(pid, signal.SIGKILL)
        held.open(HELD_ROW)

    with meanwhile(strike, held):
        fit(config_of(videos, tmp_path / "run", *WHOLE), traced(log.folder))
    assert len(log.groups()) == 1
    assert log.repeated() == 0
    assert_recovered(log, tmp_path / "run", fault[0], reference, figures)


def test_a_rank_hangs(videos: Path, tmp_path: Path, reference: Any, figures: Figures) -> None:
    """The other rank's collective times out, and the stopped process is replaced."""
    log, fault = Log(tmp_path / "trace"), []

    def strike() -> None:
        wait_until(
            lambda: log.groups() and log.groups()[0].waiting(), START_SECONDS, "the workers at the gate"
        )
        fault.append(time.time())
        os.kill(log.groups()[0].pid(1), signal.SIGSTOP)
        log.open_all()

    more = ("ray.max_failures=1", "ray.collective_timeout_seconds=10")
    config = config_of(videos, tmp_path / "run", *WHOLE, *more)
    with meanwhile(strike, log):
        summary = fit(config, traced(log.folder, gate=GATE))
    assert summary.steps == STEPS
    assert_recovered(log, tmp_path / "run", fault[0], reference, figures)
    stopped = Path(f"/proc/{log.groups()[0].pid(1)}/stat")
    assert not stopped.exists() or stopped.read_text().rpartition(")")[2].split()[0] != "T"
