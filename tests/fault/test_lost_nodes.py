"""A machine goes away, with notice or without, and another comes: every clip is trained on once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from sam2vt.distributed.cluster.session import RAY_ENVIRONMENT, sigterm_as_before
from sam2vt.distributed.launch import fit
from tests.fault.cluster import OVERRIDES, Nodes
from tests.fault.limits import START_SECONDS
from tests.fault.runs import (
    GATE,
    STEPS,
    config_of,
    expected_clips,
    meanwhile,
    traced,
)
from tests.fault.test_driver import is_running
from tests.fault.trace import Log, wait_until

Figures = Callable[[str], None]
HELD_ROW = 10  # of 24
NOTICE_SECONDS = 25.0
LONG_EPOCH, GATE_OF_LONG = 50, 90  # steps


@pytest.fixture(scope="module")
def nodes(tests_for_workers: None) -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch, sigterm_as_before():
        for name, value in {**RAY_ENVIRONMENT, "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1"}.items():
            patch.setenv(name, value)
        cluster = Nodes()
        cluster.ensure(train=2, data=1)
        ray.init(address=cluster.cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
        cluster.end()


def config_on(videos: Path, folder: Path, *overrides: str) -> Any:
    return config_of(videos, folder / "run", *OVERRIDES, f"ray.storage_path={folder}", *overrides)


def test_a_node_that_trains_is_lost(nodes: Nodes, videos: Path, tmp_path: Path, figures: Figures) -> None:
    nodes.ensure(train=2, data=1)
    log, fault, config = Log(tmp_path / "trace"), [], config_on(videos, tmp_path)

    def strike() -> None:
        wait_until(
            lambda: log.groups() and log.groups()[0].waiting(), START_SECONDS, "the workers at the gate"
        )
        (group,) = log.groups()
        fault.append(time.time())
        nodes.remove(group.node(0))
        # A worker outlives its node for a moment, in which it must not train on.
        wait_until(lambda: not is_running(group.pid(0)), 60, "the worker to end with its node")
        log.open_all()

    with meanwhile(strike, log):
        summary = fit(config, traced(log.folder, gate=GATE))
    assert summary.steps == STEPS
    assert [(group.world, group.first) for group in log.groups()] == [(2, 0), (1, 8)]
    assert log.committed() == expected_clips(config)
    seconds = log.groups()[1].next_done(fault[0])
    figures(f"2 -> 1 workers, steps repeated {log.repeated()}, next step after {seconds:.0f} s")


def test_a_node_that_decodes_is_lost(
    nodes: Nodes, videos: Path, tmp_path: Path, figures: Figures, hold_decoders: Callable[..., Any]
) -> None:
    """What lay on it is decoded again elsewhere, while the workers wait."""
    nodes.ensure(train=2, data=2)
    log, held, fault = Log(tmp_path / "trace"), hold_decoders(HELD_ROW), []
    config = config_on(videos, tmp_path)

    def strike() -> None:
        wait_until(lambda: held.reached(HELD_ROW), START_SECONDS, "the decoder at its gate")
        fault.append(time.time())
        [(_, node)] = held.reached(HELD_ROW)
        nodes.remove(node)
        held.open(HELD_ROW)

    with meanwhile(strike, held):
        summary = fit(config, traced(log.folder))
    assert summary.steps == STEPS
    assert log.committed() == expected_clips(config)
    figures(
        f"steps repeated {log.repeated()}, next step after {log.seconds_until_a_step(fault[0]):.0f} s, "
        f"{len(log.groups())} groups of workers"
    )


def test_from_two_workers_to_one_and_back(
    nodes: Nodes, videos: Path, tmp_path: Path, figures: Figures
) -> None:
    """A drain with a deadline, then another machine."""
    nodes.ensure(train=2, data=1)
    log, drained, added = Log(tmp_path / "trace"), [], []
    config = config_on(
        videos, tmp_path, f"dataset.clips_per_video={LONG_EPOCH}", "trainer.checkpoint_every_n_steps=10"
    )

    def strike() -> None:
        wait_until(lambda: log.groups() and log.groups()[0].has_done(3), START_SECONDS, "the first steps")
        node = log.groups()[0].node(1)
        nodes.drain(node, NOTICE_SECONDS)
        drained.append(time.time())
        time.sleep(NOTICE_SECONDS)
        nodes.remove(node)
        wait_until(
            lambda: len(log.groups()) == 2 and log.groups()[1].steps > log.groups()[1].first, 60, "one worker"
        )
        added.append(time.time())
        nodes.add_trainer()
        wait_until(lambda: len(log.groups()) == 3, 100, "two workers again")
        log.open_all()

    with meanwhile(strike, log):
        fit(config, traced(log.folder, gate=GATE_OF_LONG, pace=0.3))
    groups, deadline = log.groups(), drained[0] + NOTICE_SECONDS
    assert [group.world for group in groups] == [2, 1, 2]
    assert log.committed() == expected_clips(config)
    by_drain, by_growth = log.repeats()
    assert by_drain <= 1, [(group.first, group.steps) for group in groups]
    figures(
        f"drain: steps repeated {by_drain}, next step {groups[1].next_done(deadline):.0f} s after its end"
    )
    figures(f"rejoin: steps repeated {by_growth}, next step {groups[2].next_done(added[0]):.0f} s after it")
