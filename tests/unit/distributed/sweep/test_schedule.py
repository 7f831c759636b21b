from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sam2vt.configuration.sweep import Sweep
from sam2vt.distributed.sweep.results import trial_name
from sam2vt.distributed.sweep.schedule import Clip, Population, build_scheduler, is_default, mutations

SweepOf = Callable[..., Sweep]


def trial(number: int) -> Any:
    return SimpleNamespace(trial_id=f"id{number}", custom_trial_name=trial_name(number), status="RUNNING")


def decisions(scheduler: Any, trials: list[Any], progress: float, scores: list[float]) -> list[str]:
    return [
        scheduler.on_trial_result(None, each, {"progress": progress, "objective": score, "time_total_s": 1})
        for each, score in zip(trials, scores)
    ]


def test_asha_ends_the_worst_at_a_rung_but_never_the_default(sweep_of: SweepOf) -> None:
    scheduler = build_scheduler(sweep_of("sweep.grace=0.25", "sweep.reduction=2"), "max")
    trials = [trial(number) for number in (1, 2, 3, 0)]
    for each in trials:
        scheduler.on_trial_add(None, each)
    assert set(decisions(scheduler, trials, 0.2, [0.5, 0.1, 0.4, 0.0])) == {TrialScheduler.CONTINUE}
    ended = decisions(scheduler, trials, 0.25, [0.5, 0.1, 0.6, 0.0])
    assert ended == [
        TrialScheduler.CONTINUE,
        TrialScheduler.STOP,
        TrialScheduler.CONTINUE,
        TrialScheduler.CONTINUE,
    ]


def test_the_lowest_is_best_where_the_objective_says_so(sweep_of: SweepOf) -> None:
    scheduler = build_scheduler(sweep_of("sweep.reduction=2"), "min")
    trials = [trial(number) for number in (1, 2)]
    for each in trials:
        scheduler.on_trial_add(None, each)
    assert decisions(scheduler, trials, 0.5, [0.1, 0.5]) == [TrialScheduler.CONTINUE, TrialScheduler.STOP]


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_a_trial_that_has_arrived_is_not_ended(sweep_of: SweepOf, kind: str) -> None:
    """Its checkpoint, overlays and export are still to come."""
    scheduler = build_scheduler(sweep_of(f"sweep.scheduler={kind}"), "max")
    trials = [trial(number) for number in (1, 2, 3, 4, 5)]
    for each in trials:
        scheduler.on_trial_add(None, each)
    scores = [0.9, 0.8, 0.7, 0.6, 0.1]
    assert set(decisions(scheduler, trials, 1.0, scores)) == {TrialScheduler.CONTINUE}


def test_without_a_scheduler_all_trials_run(sweep_of: SweepOf) -> None:
    assert isinstance(build_scheduler(sweep_of("sweep.scheduler=none"), "max"), FIFOScheduler)


def test_the_default_takes_over_nothing(sweep_of: SweepOf, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = build_scheduler(sweep_of("sweep.scheduler=pbt"), "max")
    assert isinstance(scheduler, Population)
    given: list[list[Any]] = []
    base = Population.__mro__[2]
    monkeypatch.setattr(base, "_checkpoint_or_exploit", lambda self, *arguments: given.append(arguments[3]))
    default, other = trial(0), trial(1)
    scheduler._checkpoint_or_exploit(default, None, [], [default, other])
    assert given == [[other]]
    assert [is_default(default), is_default(other)] == [True, False]


def test_fresh_and_moved_values_stay_in_the_space(sweep_of: SweepOf) -> None:
    space = sweep_of("sweep.scheduler=pbt").space
    fresh = mutations(space)
    assert all(1e-4 <= fresh["optimizer.lr"].sample() <= 3e-3 for _ in range(50))
    moved = Clip(space)({"point": {"number": 1, "values": {"optimizer.lr": 1.0, "loss.dice_weight": 0.01}}})
    assert moved["point"]["values"] == {"optimizer.lr": 3e-3, "loss.dice_weight": 0.3}
