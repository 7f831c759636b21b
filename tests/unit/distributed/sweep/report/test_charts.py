from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from sam2vt.core.evaluation import pages
from sam2vt.distributed.sweep.report import charts
from sam2vt.distributed.sweep.report.charts import TooLittleData, parallel, pareto
from sam2vt.distributed.sweep.results import DONE, FAILED, STOPPED, Objective, SweepResult, Trial

JF, SPEED = Objective("val/J&F", "max"), Objective("seconds_per_step", "min")
FIELDS = ("optimizer.lr", "model.frozen", "dataset.points")
DEFAULTS = {"optimizer.lr": 1e-5, "model.frozen": True, "dataset.points": 1}
OF_SWEEP = [charts.history, parallel, charts.curves, pareto]


def rows(last: float, num: int = 3) -> list[dict[str, float]]:
    return [
        {"step": 10.0 * i, "val/J&F": last * i / num, "val/J_hold_first": 0.25, "seconds_per_step": 1 - last}
        for i in range(num + 1)
    ]


def sweep(num_trials: int = 12, **changes: Any) -> SweepResult:
    """The third trial failed, the fourth was stopped, the fifth failed at once."""
    rng = np.random.default_rng(0)
    trials = []
    for n in range(num_trials):
        values: dict[str, Any] = {
            "optimizer.lr": float(10 ** rng.uniform(-6, -3)),
            "model.frozen": bool(n % 2),
        }
        values |= {"dataset.points": int(rng.integers(1, 5))} if n % 2 else {}
        status = {2: FAILED, 3: STOPPED, 4: FAILED}.get(n, DONE)
        own = [] if n == 4 else rows(float(rng.uniform(0.3, 0.9)))
        trials.append(Trial(n, values if n else {}, status, rows=own))
    content = {"log_fields": frozenset({"optimizer.lr"}), "defaults": DEFAULTS, **changes}
    return SweepResult("s", trials, [JF, SPEED], FIELDS, **content)


def parsed(text: str) -> ElementTree.Element:
    root = ElementTree.fromstring(text)
    assert root.tag == "svg"
    return root


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter("text")]


@pytest.mark.parametrize("draw", OF_SWEEP)
def test_every_trial_with_a_validation_is_drawn(draw: Callable[[SweepResult], str]) -> None:
    result = sweep()
    tips = " ".join(element.text or "" for element in parsed(draw(result)).iter("title"))
    drawn = {int(number) for number in re.findall(r"trial_(\d+)", tips)}
    expected = {t.number for t in (result.ranked() if draw is pareto else result.trials)}
    assert drawn == expected - ({4} if draw is not charts.history else set())


def test_ids_do_not_clash_between_charts() -> None:
    result = sweep()
    drawn = [draw(result) for draw in OF_SWEEP] + [charts.parameter(result, field) for field in FIELDS]
    drawn.append(charts.importances({"a": 0.7, "b": 0.3}))
    ids = [element.get("id") for text in drawn for element in parsed(text).iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    references = re.findall(r'(?:href="|url\()#([\w-]+)', "".join(drawn))
    assert references
    assert set(references) <= set(ids)


def test_every_colour_follows_the_page() -> None:
    result = sweep()
    drawn = "".join(draw(result) for draw in OF_SWEEP) + charts.parameter(result, FIELDS[0])
    drawn = re.sub(r'(href="|url\()#[\w-]+', "", drawn)
    assert not re.findall("#[0-9a-fA-F]{6}", drawn)
    assert set(re.findall(r"var\(--(\w+)\)", drawn)) <= set(pages.VARIABLES.values())
    assert len(pages.VARIABLES) == len(pages.LIGHT) + len(pages.RAMP)
    assert pages.DARK.keys() == pages.LIGHT.keys()
    assert len(pages.DARK_RAMP) == len(pages.RAMP)


@pytest.mark.parametrize("draw", OF_SWEEP)
def test_the_same_twice_and_under_another_style(draw: Callable[[SweepResult], str]) -> None:
    first = draw(sweep())
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.hashsalt": "other"}):
        assert draw(sweep()) == first
        assert matplotlib.rcParams["font.size"] == 30


def test_best_default_and_the_others_are_told_apart() -> None:
    said = texts(parsed(charts.history(sweep())))
    assert {"best", "default", "ran to its end", "stopped early", "failed", "best so far"} <= set(said)
    best = sweep().best
    assert best is not None
    assert f"{best.name}: {best.best(JF):.3f}" in said


def test_the_baseline_says_that_it_is_j_alone() -> None:
    assert any("J alone" in text for text in texts(parsed(charts.curves(sweep()))))
    bare = [
        replace(t, rows=[{k: v for k, v in r.items() if "hold" not in k} for r in t.rows])
        for t in sweep().trials
    ]
    assert not any("J alone" in text for text in texts(parsed(charts.curves(replace(sweep(), trials=bare)))))


def test_a_conditional_setting_is_drawn_where_it_is_set() -> None:
    titles = [e.text or "" for e in parsed(charts.parameter(sweep(), "dataset.points")).iter("title")]
    assert len(titles) == 7  # the default and the odd ones
    assert "not set" in texts(parsed(parallel(sweep())))
    assert "not set" not in texts(parsed(parallel(replace(sweep(), fields=FIELDS[:2]))))


def test_names_are_text_not_markup_or_mathematics() -> None:
    hostile = "</svg><script>$x^2$"
    trials = [Trial(n, {hostile: "<b>$" if n % 2 else "\x00"}, DONE, rows=rows(0.1 * n)) for n in range(1, 5)]
    text = charts.parameter(SweepResult("s", trials, [JF], [hostile]), hostile)
    assert "<script" not in text
    assert "<b>" not in text
    assert any("$x^2$" in said for said in texts(parsed(text)))


@pytest.mark.parametrize("draw", OF_SWEEP)
@pytest.mark.parametrize("statuses", [[], [DONE], [FAILED, FAILED, FAILED]], ids=["none", "one", "failed"])
def test_too_little_data_is_said(draw: Callable[[SweepResult], str], statuses: list[str]) -> None:
    trials = [Trial(n, {}, s, rows=rows(0.5, 1)[: s == DONE]) for n, s in enumerate(statuses)]
    with pytest.raises(TooLittleData, match=r"^[A-Z].*\.$"):
        draw(SweepResult("s", trials, [JF, SPEED], FIELDS, defaults=DEFAULTS))


def test_one_setting_needs_no_parallel_coordinates() -> None:
    with pytest.raises(TooLittleData, match="two settings"):
        parallel(replace(sweep(), fields=FIELDS[:1]))


def test_importance_of_one_setting_is_not_drawn() -> None:
    with pytest.raises(TooLittleData, match="fewer than two"):
        charts.importances({"lr": 1.0})


def test_neither_ray_nor_torch_is_imported() -> None:
    page = "sam2vt.distributed.sweep.report.page"
    code = f"import sys, {page}; print({{'ray', 'torch', 'optuna'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_many_categories_are_thinned() -> None:
    trials = [Trial(n, {"kind": f"k{n:03d}"}, DONE, rows=rows(0.01 * n)) for n in range(1, 50)]
    said = texts(parsed(charts.parameter(SweepResult("s", trials, [JF], ["kind"]), "kind")))
    assert "k001" in said
    assert sum(text.startswith("k0") for text in said) <= 20
