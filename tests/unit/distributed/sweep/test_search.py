from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from sam2vt.configuration.sweep import Sweep
from sam2vt.distributed.sweep.results import Objective
from sam2vt.distributed.sweep.search import (
    DefaultFirst,
    known_points,
    optuna_search,
    random_points,
    search_arguments,
)

SweepOf = Callable[..., Sweep]
SCORE = (Objective("val/J&F", "max"),)
BOTH = (*SCORE, Objective("seconds_per_step", "min"))


def score(values: dict[str, Any]) -> float:
    return -abs(math.log10(values.get("optimizer.lr", 1e-5)) + 3)


def asked(searcher: DefaultFirst, first: int, number: int) -> list[dict[str, Any]]:
    """The points of trials that come one after the other."""
    points = []
    for i in range(first, first + number):
        suggested = searcher.suggest(f"id{i}")
        assert suggested is not None
        result = {
            "objective": score(suggested["point"]["values"]),
            "objective_2": 1.0,
            "training_iteration": 1,
        }
        searcher.on_trial_result(f"id{i}", result)
        searcher.on_trial_complete(f"id{i}", result)
        points.append(suggested["point"])
    return points


@pytest.mark.parametrize("objectives", [SCORE, BOTH])
def test_the_first_trial_is_the_default_and_the_searcher_hears_nothing_of_it(
    sweep_of: SweepOf, objectives: tuple[Objective, ...]
) -> None:
    searcher = DefaultFirst(optuna_search(sweep_of(), objectives))
    points = asked(searcher, 0, 4)
    assert [point["number"] for point in points] == [0, 1, 2, 3]
    assert points[0]["values"] == {}
    assert all(set(point["values"]) == {"optimizer.lr", "loss.dice_weight"} for point in points[1:])
    assert len(searcher.inner._ot_study.trials) == 3


def test_a_failed_trial_does_not_end_the_search(sweep_of: SweepOf) -> None:
    searcher = DefaultFirst(optuna_search(sweep_of(), SCORE))
    for i in range(3):
        searcher.suggest(f"id{i}")
        searcher.on_trial_complete(f"id{i}", None, error=True)
    assert asked(searcher, 3, 1)[0]["number"] == 3


def test_the_same_seed_suggests_the_same(sweep_of: SweepOf) -> None:
    runs = [
        asked(DefaultFirst(optuna_search(sweep_of(f"sweep.seed={seed}"), SCORE)), 0, 12) for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_a_search_that_was_saved_goes_on_as_if_it_had_not_been(sweep_of: SweepOf, tmp_path: Path) -> None:
    undisturbed = asked(DefaultFirst(optuna_search(sweep_of(), SCORE)), 0, 12)
    first, second = (DefaultFirst(optuna_search(sweep_of(), SCORE)) for _ in range(2))
    begun = asked(first, 0, 6)
    first.save(str(tmp_path / "state"))
    second.restore(str(tmp_path / "state"))
    assert begun + asked(second, 6, 6) == undisturbed


def test_switches_of_alternatives_are_no_settings(sweep_of: SweepOf) -> None:
    sweep = sweep_of("+sweep.space.loss.focal_weight={log_uniform: [1.0, 40.0], or: 0.0}")
    points = asked(DefaultFirst(optuna_search(sweep, SCORE)), 0, 12)[1:]
    assert {len(point["values"]) for point in points} == {3}
    weights = [point["values"]["loss.focal_weight"] for point in points]
    assert 0.0 in weights
    assert max(weights) > 1


def test_random_points_follow_from_the_seed_alone(sweep_of: SweepOf) -> None:
    space = sweep_of().space
    assert list(islice(random_points(space, 3), 9)) == list(islice(random_points(space, 3), 9))
    assert list(islice(random_points(space, 3), 9)) != list(islice(random_points(space, 4), 9))


def test_what_does_not_look_at_results_is_known_before(sweep_of: SweepOf) -> None:
    space, arguments = search_arguments(sweep_of("sweep.algorithm=random"), SCORE)
    points = space["point"]["grid_search"]
    assert arguments == {"num_samples": 1}
    assert [point["number"] for point in points] == list(range(8))
    assert points[0]["values"] == {}


def test_under_pbt_the_default_names_its_values(sweep_of: SweepOf) -> None:
    """Another trial may take them over, which needs something to move up and down."""
    space, _ = search_arguments(sweep_of("sweep.scheduler=pbt"), SCORE)
    values = space["point"]["grid_search"][0]["values"]
    assert values == {"optimizer.lr": 1e-3, "loss.dice_weight": 1.0}


def test_a_grid_is_the_default_and_every_point(sweep_of: SweepOf) -> None:
    sweep = sweep_of(
        "~sweep.space.optimizer",
        "sweep.algorithm=grid",
        "~sweep.space.loss.dice_weight",
        "+sweep.space.loss.dice_weight={choice: [0.5, 1.0, 2.0]}",
    )
    assert [point["loss.dice_weight"] for point in known_points(sweep)] == [0.5, 1.0, 2.0]
