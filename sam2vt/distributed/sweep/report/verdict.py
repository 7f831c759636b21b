"""What the page says first: whether the sweep gained anything, and how its trials ended."""

from __future__ import annotations

import math

from sam2vt.distributed.sweep.report import markup
from sam2vt.distributed.sweep.report.labels import score_label, short_name
from sam2vt.distributed.sweep.trials import (
    DEFAULT,
    DONE,
    FAILED,
    JF,
    RUNNING,
    STOPPED,
    Objective,
    SweepResult,
    Trial,
)


def verdict(result: SweepResult) -> str:
    """The best trial beside the default, in a sentence."""
    objective, best, default = result.objectives[0], result.best, result.default
    if best is None:
        return "No trial ran to its end."
    if best.number == DEFAULT:
        return f"No trial beat the default, with {scores(best, result)}."
    said = f"<b>{best.name}</b> is the best, with {scores(best, result)}"
    unswept = default.best(objective) if default else math.nan
    if default is None or math.isnan(unswept):
        return f"{said}; the default came to nothing to compare."
    ended = "" if default.status == DONE else f" ({default.status})"
    gain = score_label(objective.name, abs(_as_shown(objective, best) - _as_shown(objective, default)))
    better = "loss" if objective.better(unswept, best.best(objective)) else "gain"
    return f"{said}; the default{ended} has {scores(default, result)}: a {better} of <b>{gain}</b>."


def _as_shown(objective: Objective, trial: Trial) -> float:
    """Rounded, so that the difference is that of the numbers beside it."""
    return float(score_label(objective.name, trial.best(objective)))


def scores(trial: Trial, result: SweepResult) -> str:
    """The deciding objective, and J&F where that is another."""
    objective = result.objectives[0]
    names = dict.fromkeys([objective.name, JF])
    row = {**trial.best_row(objective), objective.name: trial.best(objective)}
    parts = [f"{markup.text(short_name(n))} <b>{score_label(n, row[n])}</b>" for n in names if n in row]
    return ", ".join(parts)


def counts(result: SweepResult) -> str:
    words = {DONE: "ran to the end", STOPPED: "stopped early", FAILED: "failed", RUNNING: "still running"}
    numbers = {status: sum(trial.status == status for trial in result.trials) for status in words}
    parts = ", ".join(f"{count} {words[status]}" for status, count in numbers.items() if count)
    num = len(result.trials)
    total = _duration(sum(trial.seconds for trial in result.trials))
    return f"{num} trial{'' if num == 1 else 's'}{': ' + parts if parts else ''}; {total} of trials in all."


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
