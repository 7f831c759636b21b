from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sam2vt.distributed.sweep.report.importance import importance
from sam2vt.distributed.sweep.report.labels import value_label
from sam2vt.distributed.sweep.results import DONE, STOPPED, Objective, SweepResult, Trial

FIELDS = ("lr", "weight", "kind", "points")
DEFAULTS = {"lr": 1e-4, "weight": 1.0, "kind": ["mask"], "points": 1}


def draw(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """`points` is there only where the kind is not ["mask"]."""
    kind = [["mask"], ["point", "box"]][rng.integers(2)]
    values = {"lr": float(10 ** rng.uniform(-6, -2)), "weight": float(rng.uniform(0, 1)), "kind": kind}
    return values | ({"points": int(rng.integers(1, 5))} if kind != ["mask"] else {})


def sweep(score, num_trials: int = 40, mode: str = "max", **changes: Any) -> SweepResult:
    rng = np.random.default_rng(0)
    trials = []
    for number in range(num_trials):
        values = draw(number, rng) if number else {}
        rows = [{"step": 10.0, "val/J&F": score(values or DEFAULTS)}]
        trials.append(Trial(number, values, DONE, rows=rows))
    objective = Objective("val/J&F", mode)
    content = {"fields": FIELDS, "log_fields": frozenset({"lr"}), "defaults": DEFAULTS, **changes}
    return SweepResult("s", trials, [objective], **content)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_setting_that_decides_comes_first(mode: str) -> None:
    sign = 1 if mode == "max" else -1
    by_rate = importance(sweep(lambda v: -sign * abs(math.log10(v["lr"]) + 4), mode=mode))
    by_weight = importance(sweep(lambda v: sign * v["weight"], mode=mode))
    assert next(iter(by_rate)) == "lr"
    assert next(iter(by_weight)) == "weight"
    assert by_rate["lr"] > 0.5


def test_shares_sum_to_one_in_falling_order() -> None:
    shares = importance(sweep(lambda v: v["weight"]))
    assert set(shares) == set(FIELDS)
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_a_setting_that_only_some_trials_have_can_decide() -> None:
    shares = importance(sweep(lambda v: v.get("points", 0) if v["kind"] != ["mask"] else 0.0, num_trials=60))
    assert shares["points"] > shares["lr"]
    assert shares["points"] > shares["weight"]


def test_a_categorical_setting_decides() -> None:
    shares = importance(sweep(lambda v: (v["kind"] == ["mask"]) + 0.001 * v["weight"], num_trials=60))
    assert shares["kind"] > shares["lr"]


def test_a_constant_setting_is_left_out() -> None:
    rng = np.random.default_rng(1)
    weights = [float(rng.uniform(0, 1)) for _ in range(12)]
    trials = [
        Trial(n, {"lr": 0.1, "weight": w}, DONE, rows=[{"step": 1.0, "val/J&F": w}])
        for n, w in enumerate(weights, start=1)
    ]
    result = SweepResult("s", trials, [Objective("val/J&F", "max")], ("lr", "weight"))
    assert importance(result) == {"weight": 1.0}


@pytest.mark.parametrize("num_trials", [0, 1, 3])
def test_empty_with_fewer_than_four_trials(num_trials: int) -> None:
    assert importance(sweep(lambda v: v["weight"], num_trials)) == {}


def test_four_are_enough() -> None:
    assert importance(sweep(lambda v: v["weight"], 4))


def test_only_trials_that_ran_to_their_end_count() -> None:
    whole = sweep(lambda v: v["weight"], 12)
    others = [
        Trial(t.number + 12, t.values, STOPPED, rows=[{"step": 1.0, "val/J&F": 9.0}]) for t in whole.trials
    ]
    more = SweepResult(
        "s", [*whole.trials, *others], whole.objectives, FIELDS, whole.log_fields, whole.defaults
    )
    assert importance(more) == importance(whole)


def test_empty_where_all_came_out_alike() -> None:
    assert importance(sweep(lambda v: 0.5)) == {}


def test_a_default_of_zero_on_a_logarithmic_scale() -> None:
    shares = importance(sweep(lambda v: v["weight"], defaults={**DEFAULTS, "lr": 0.0}))
    assert next(iter(shares)) == "weight"


def test_the_same_twice() -> None:
    assert list(importance(sweep(lambda v: v["lr"])).items()) == list(
        importance(sweep(lambda v: v["lr"])).items()
    )


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (True, "true"),
        (None, "null"),
        (3, "3"),
        (0.000123456, "0.000123"),
        (["mask", "box"], "mask, box"),
        ("a\nb\x00", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_labels_of_values(value: Any, label: str) -> None:
    assert value_label(value) == label
