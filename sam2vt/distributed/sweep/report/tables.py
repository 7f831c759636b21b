"""The tables of the page: best beside default, all trials, the trials of the trade-off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from sam2vt.distributed.sweep.report import markup
from sam2vt.distributed.sweep.report.importance import is_number, swept_values
from sam2vt.distributed.sweep.report.labels import score_label, short_name
from sam2vt.distributed.sweep.trials import (
    DEFAULT,
    DONE,
    FAILED,
    JF,
    RUNNING,
    STOPPED,
    SweepResult,
    Trial,
)

SCORES = (JF, "val/J", "val/F")


def comparison(result: SweepResult) -> str:
    """The settings of the best trial beside those of the default."""
    best = result.best
    if best is None:
        head = ["setting", "default"]
        rows = [[markup.breakable(f), markup.value(result.defaults, f)] for f in result.fields]
        return markup.table(head, rows, numeric=set())
    values, rows, classes = swept_values(best, result), [], []
    for field in result.fields:
        change = _change(result.defaults.get(field), values.get(field), field in result.log_fields)
        pair = [markup.value(result.defaults, field), markup.value(values, field)]
        rows.append([markup.breakable(field), *pair, change])
        classes.append("" if change else "same")
    return markup.table(["setting", "default", f"best ({best.name})", "change"], rows, {1, 2, 3}, classes)


def _change(old: Any, new: Any, log: bool) -> str:
    if old == new or new is None:
        return "" if old == new else "not set"
    if not is_number(old) or not is_number(new):
        return "changed"
    if log and old > 0 and new > 0:
        return f"\N{MULTIPLICATION SIGN} {new / old:.3g}"
    return f"{new - old:+.3g}"


def all_trials(result: SweepResult) -> str:
    """Those that ran to their end by the objective, then the others."""
    trials = _in_order(result)
    if not trials:
        return '<p class="none">No trial has begun.</p>'
    others = [name for name in SCORES if name not in {o.name for o in result.objectives}]
    head = ["trial", "status", "reason", "steps", *_names(result)]
    head += [*map(short_name, others), *map(markup.breakable, result.fields), "seconds"]
    before = 4 + len(result.objectives) + len(others)
    numeric = {*range(3, before), *_numeric(result, before), len(head) - 1}
    rows = [_trial_row(trial, result, others) for trial in trials]
    return markup.table(head, rows, numeric, [_trial_class(trial, result) for trial in trials])


def _trial_row(trial: Trial, result: SweepResult, others: Sequence[str]) -> list[str]:
    row, status = trial.best_row(result.objectives[0]), escape(trial.status)
    reason = f'<span class="reason">{markup.text(trial.reason)}</span>'
    start = [trial.name, f'<span class="{status}">{status}</span>', reason, str(trial.steps)]
    scores = [score_label(name, row.get(name, math.nan)) for name in others]
    return [*start, *_objectives(trial, result), *scores, *_values(trial, result), f"{trial.seconds:.0f}"]


def _trial_class(trial: Trial, result: SweepResult) -> str:
    if result.best is not None and trial.number == result.best.number:
        return "is-best"
    return "is-default" if trial.number == DEFAULT else ""


def _in_order(result: SweepResult) -> list[Trial]:
    objective, ranked = result.objectives[0], result.ranked()
    rest = [trial for trial in result.trials if trial not in ranked]
    sign = -1 if objective.mode == "max" else 1
    order = [STOPPED, RUNNING, DONE, FAILED]

    def key(trial: Trial) -> tuple[int, bool, float, int]:
        value = trial.best(objective)
        return (
            order.index(trial.status),
            math.isnan(value),
            0 if math.isnan(value) else sign * value,
            trial.number,
        )

    return [*ranked, *sorted(rest, key=key)]


def trade_off(result: SweepResult) -> str:
    """The trials that no other beats in all objectives."""
    head = ["trial", *_names(result), *map(markup.breakable, result.fields)]
    rows = [[t.name, *_objectives(t, result), *_values(t, result)] for t in result.pareto()]
    before = 1 + len(result.objectives)
    return markup.table(head, rows, {*range(1, before), *_numeric(result, before)}) if rows else ""


def _names(result: SweepResult) -> list[str]:
    return [markup.text(short_name(objective.name)) for objective in result.objectives]


def _values(trial: Trial, result: SweepResult) -> list[str]:
    return [markup.value(swept_values(trial, result), field) for field in result.fields]


def _objectives(trial: Trial, result: SweepResult) -> list[str]:
    return [score_label(o.name, trial.best(o)) for o in result.objectives]


def _numeric(result: SweepResult, before: int) -> set[int]:
    """The columns of swept fields that hold numbers, behind so many others."""
    every = [swept_values(trial, result) for trial in result.trials]
    is_numeric = [all(is_number(values[f]) for values in every if f in values) for f in result.fields]
    return {before + i for i, numeric in enumerate(is_numeric) if numeric}
