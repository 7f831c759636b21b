from __future__ import annotations

from itertools import islice
from typing import Any

import optuna
import pytest

from sam2vt.configuration.sweep_space import Dimension, Space, read_space


def anything(name: str, value: Any) -> tuple[Any, list[str]]:
    """Every setting takes every value, but `whole` whole numbers only and `missing` is none."""
    if name == "missing":
        return None, ["missing is no setting"]
    fraction = name == "whole" and isinstance(value, float)
    return value, [f"{name}={value}: must be an integer"] if fraction else []


def space_of(mapping: dict[str, Any]) -> Space:
    space, faults = read_space(mapping, anything, lambda name: f"default of {name}")
    assert not faults, faults
    return space


def faults_of(mapping: dict[str, Any]) -> list[str]:
    return read_space(mapping, anything, lambda name: None)[1]


def draws(space: Space, number: int = 60, seed: int = 0) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.draw(study.ask()) for _ in range(number)]


@pytest.mark.parametrize(
    ("leaf", "fits"),
    [
        ({"uniform": [0, 1]}, lambda v: 0 <= v <= 1 and isinstance(v, float)),
        ({"uniform": [0.0, 1.0], "step": 0.25}, lambda v: v in (0, 0.25, 0.5, 0.75, 1)),
        ({"log_uniform": [1e-5, 1e-3]}, lambda v: 1e-5 <= v <= 1e-3),
        ({"integer": [1, 3]}, lambda v: v in (1, 2, 3)),
        ({"integer": [0, 10], "step": 5}, lambda v: v in (0, 5, 10)),
        ({"log_integer": [1, 100]}, lambda v: 1 <= v <= 100 and isinstance(v, int)),
        ({"choice": ["a", None, 2]}, lambda v: v in ("a", None, 2)),
        ({"choice": [["mask"], ["point", "box"]]}, lambda v: v in (["mask"], ["point", "box"])),
        ({"log_uniform": [0.1, 1.0], "or": 0.0}, lambda v: v == 0 or 0.1 <= v <= 1),
    ],
)
def test_values_lie_in_their_range(leaf: dict[str, Any], fits: Any) -> None:
    values = [draw["a.b"] for draw in draws(space_of({"a": {"b": leaf}}))]
    assert all(fits(value) for value in values)
    assert len({str(value) for value in values}) > 1


def test_the_same_seed_draws_the_same_points() -> None:
    space = space_of({"a": {"uniform": [0, 1]}, "b": {"choice": [1, 2, 3]}})
    assert draws(space) == draws(space)
    assert draws(space) != draws(space, seed=1)


def test_an_alternative_comes_about_half_of_the_time() -> None:
    values = [draw["a"] for draw in draws(space_of({"a": {"log_uniform": [0.1, 1.0], "or": 0.0}}), 200)]
    assert 60 < values.count(0.0) < 140


def test_a_setting_varies_only_beside_the_values_of_its_condition() -> None:
    space = space_of(
        {
            "size": {"integer": [1, 9], "when": {"kind": ["step", "poly"]}},  # before what it depends on
            "kind": {"choice": ["cosine", "step", "poly"]},
        }
    )
    found = draws(space)
    assert all(("size" in draw) == (draw["kind"] != "cosine") for draw in found)
    assert {draw["kind"] for draw in found} == {"cosine", "step", "poly"}


def test_a_condition_on_an_unswept_setting_looks_at_its_default() -> None:
    leaf = {"uniform": [0, 1], "when": {"b": "default of b"}}
    assert all("a" in draw for draw in draws(space_of({"a": leaf}), 3))
    assert not any(draws(space_of({"a": {**leaf, "when": {"b": "other"}}}), 3))


def test_a_grid_has_every_point_once() -> None:
    space = space_of(
        {
            "kind": {"choice": ["cosine", "step"]},
            "size": {"integer": [1, 3], "when": {"kind": "step"}},
            "rate": {"uniform": [0.0, 0.2], "step": 0.1},
        }
    )
    points = list(space.grid())
    assert len(points) == 3 + 3 * 3
    assert {"kind": "cosine", "rate": 0.1} in points
    assert len({str(sorted(point.items())) for point in points}) == len(points)


def test_a_range_without_steps_cannot_be_counted() -> None:
    assert Dimension("a", "uniform", (0.0, 1.0)).points() is None
    assert Dimension("a", "log_uniform", (0.1, 1.0)).points() is None


def test_values_are_clipped_into_the_range() -> None:
    dimension = Dimension("a", "uniform", (0.5, 2.0))
    assert [dimension.clipped(value) for value in (0.1, 1.0, 3.0)] == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"a": 3}, "sweep.space.a=3: must be a mapping with one of uniform"),
        ({"a": {"gauss": [0, 1]}}, "sweep.space.a.gauss=[0, 1]: must be a mapping"),
        ({"a": {"uniform": [0, 1], "choice": [1]}}, "sweep.space.a: has uniform, choice; allowed are one of"),
        ({"a": {"uniform": [0, 1], "steps": 2}}, "has uniform, steps; allowed are one of"),
        (
            {"a": {"uniform": 3}},
            "sweep.space.a.uniform=3: must be a list of two numbers, the lower one first",
        ),
        ({"a": {"uniform": [1]}}, "must be a list of two numbers"),
        (
            {"a": {"uniform": [1, 0]}},
            "sweep.space.a.uniform=[1, 0]: must be two numbers, the lower one first",
        ),
        ({"a": {"uniform": [1, float("nan")]}}, "must be two numbers"),
        ({"a": {"uniform": [0, 1, 2]}}, "must be two numbers"),
        ({"a": {"uniform": [False, True]}}, "must be two numbers"),
        ({"a": {"choice": []}}, "must be a list of at least one value"),
        ({"a": {"choice": "abc"}}, "must be a list of at least one value"),
        ({"a": {"log_uniform": [0, 1]}}, "begins above 0; for `not at all` beside it give `or: 0`"),
        ({"a": {"integer": [0.5, 1]}}, "must be two whole numbers"),
        ({"whole": {"uniform": [1, 3]}}, "the setting is a whole number; use integer"),
        ({"whole": {"log_uniform": [1, 3]}}, "the setting is a whole number; use log_integer"),
        ({"a": {"log_uniform": [1, 2], "step": 1}}, "a logarithmic range has no steps"),
        ({"a": {"uniform": [0, 1], "step": 2}}, "sweep.space.a.step=2: must be above 0 and at most"),
        ({"a": {"uniform": [0, 1], "step": "x"}}, "sweep.space.a.step='x': must be above 0"),
        ({"a": {"integer": [0, 4], "step": 1.5}}, "sweep.space.a.step=1.5: must be above 0"),
        ({"missing": {"uniform": [0, 1]}}, "sweep.space.missing: missing is no setting"),
        ({"a": {"uniform": [0, 1], "when": 3}}, "sweep.space.a.when=3: must be a mapping of settings"),
        ({"a": {"uniform": [0, 1], "when": {"missing": 1}}}, "sweep.space.a.when: missing is no setting"),
    ],
)
def test_a_faulty_range_is_said(mapping: dict[str, Any], said: str) -> None:
    assert any(said in fault for fault in faults_of(mapping)), faults_of(mapping)


def test_conditions_that_depend_on_each_other_are_a_fault() -> None:
    faults = faults_of({"a": {"choice": [1, 2], "when": {"b": 1}}, "b": {"choice": [1, 2], "when": {"a": 1}}})
    assert faults == ["sweep.space: the conditions (when) of a, b depend on each other"]


def test_all_faults_are_said_at_once() -> None:
    assert len(faults_of({"a": {"uniform": [1, 0]}, "b": {"choice": []}, "missing": {"choice": [1]}})) == 3


def test_nested_and_dotted_names_are_the_same() -> None:
    nested, dotted = space_of({"a": {"b": {"uniform": [0, 1]}}}), space_of({"a.b": {"uniform": [0, 1]}})
    assert nested.fields == dotted.fields == ("a.b",)
    assert list(islice(nested.grid(), 0)) == []
