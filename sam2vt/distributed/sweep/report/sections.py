"""Write the text of the page: its verdict, its tables, and the pictures of two trials."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any
from urllib.parse import unquote

from sam2vt.distributed.sweep.report.labels import (
    html_name,
    html_table,
    html_text,
    html_value,
    score_label,
    short_name,
)
from sam2vt.distributed.sweep.results import DEFAULT, DONE, FAILED, JF, RUNNING, STOPPED, SweepResult, Trial
from sam2vt.settings import is_number

SCORES = (JF, "val/J", "val/F")
Pictures = Mapping[int, Sequence[tuple[str, bytes]]]  # by number of trial, each a name and its bytes


_KINDS = {b"\x89PNG\r\n\x1a\n": "png", b"GIF87a": "gif", b"GIF89a": "gif"}


def verdict(result: SweepResult) -> str:
    """Compare the best trial with the default in one sentence."""
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
    # Of the scores as rounded on the page, so that the gain is the difference of the numbers shown.
    shown = [float(score_label(objective.name, trial.best(objective))) for trial in (best, default)]
    gain = score_label(objective.name, abs(shown[0] - shown[1]))
    better = "loss" if objective.better(unswept, best.best(objective)) else "gain"
    return f"{said}; the default{ended} has {scores(default, result)}: a {better} of <b>{gain}</b>."


def scores(trial: Trial, result: SweepResult) -> str:
    """Return the deciding objective of a trial, and J&F if that is another one."""
    objective = result.objectives[0]
    names = dict.fromkeys([objective.name, JF])
    row = {**trial.best_row(objective), objective.name: trial.best(objective)}
    parts = [f"{html_text(short_name(n))} <b>{score_label(n, row[n])}</b>" for n in names if n in row]
    return ", ".join(parts)


def counts(result: SweepResult) -> str:
    """Say how many trials there are, how they ended, and how long they took together."""
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


def comparison(result: SweepResult) -> str:
    """Return the table of swept settings: the default's, the best trial's and what changed."""
    best, default = result.best, result.defaults
    head, pairs = ["setting", "default"], [[html_name(f), html_value(default, f)] for f in result.fields]
    if best is None:
        return html_table(head, pairs, numeric=set())
    values = result.values_of(best)
    changes = [_change(default.get(f), values.get(f), f in result.log_fields) for f in result.fields]
    rows = [[*pair, html_value(values, f), change] for pair, f, change in zip(pairs, result.fields, changes)]
    classes = ["" if change else "same" for change in changes]
    return html_table([*head, f"best ({best.name})", "change"], rows, {1, 2, 3}, classes)


def _change(old: Any, new: Any, log: bool) -> str:
    if old == new or new is None:
        return "" if old == new else "not set"
    if not is_number(old) or not is_number(new):
        return "changed"
    if log and old > 0 and new > 0:
        return f"\N{MULTIPLICATION SIGN} {new / old:.3g}"
    return f"{new - old:+.3g}"


def all_trials(result: SweepResult) -> str:
    """Return the table of all trials: the finished ones by their objective, then the others."""
    trials = _in_order(result)
    if not trials:
        return '<p class="none">No trial has begun.</p>'
    others = [name for name in SCORES if name not in {o.name for o in result.objectives}]
    head = ["trial", "status", "reason", "steps", *_names(result)]
    head += [*map(short_name, others), *map(html_name, result.fields), "seconds"]
    before = 4 + len(result.objectives) + len(others)
    numeric = {*range(3, before), *_numeric(result, before), len(head) - 1}
    rows = [_trial_row(trial, result, others) for trial in trials]
    return html_table(head, rows, numeric, [_trial_class(trial, result) for trial in trials])


def _trial_row(trial: Trial, result: SweepResult, others: Sequence[str]) -> list[str]:
    row, status = trial.best_row(result.objectives[0]), escape(trial.status)
    reason = f'<span class="reason">{html_text(trial.reason)}</span>'
    start = [trial.name, f'<span class="{status}">{status}</span>', reason, str(trial.steps)]
    scores = [score_label(name, row.get(name, math.nan)) for name in others]
    return [*start, *_objectives(trial, result), *scores, *_values(trial, result), f"{trial.seconds:.0f}"]


def _trial_class(trial: Trial, result: SweepResult) -> str:
    if result.best is not None and trial.number == result.best.number:
        return "is-best"
    return "is-default" if trial.number == DEFAULT else ""


def _in_order(result: SweepResult) -> list[Trial]:
    objective, ranked = result.objectives[0], result.ranked()
    statuses = [STOPPED, RUNNING, DONE, FAILED]

    def place(trial: Trial) -> tuple[int, tuple[bool, float], int]:
        return statuses.index(trial.status), objective.order(trial.best(objective)), trial.number

    return [*ranked, *sorted((trial for trial in result.trials if trial not in ranked), key=place)]


def trade_off(result: SweepResult) -> str:
    """Return the table of the trials that no other beats in all objectives."""
    head = ["trial", *_names(result), *map(html_name, result.fields)]
    rows = [[t.name, *_objectives(t, result), *_values(t, result)] for t in result.pareto()]
    before = 1 + len(result.objectives)
    return html_table(head, rows, {*range(1, before), *_numeric(result, before)}) if rows else ""


def _names(result: SweepResult) -> list[str]:
    return [html_text(short_name(objective.name)) for objective in result.objectives]


def _values(trial: Trial, result: SweepResult) -> list[str]:
    return [html_value(result.values_of(trial), field) for field in result.fields]


def _objectives(trial: Trial, result: SweepResult) -> list[str]:
    return [score_label(o.name, trial.best(o)) for o in result.objectives]


def _numeric(result: SweepResult, before: int) -> set[int]:
    """Return which columns of swept fields hold numbers; `before` columns precede them."""
    every = [result.values_of(trial) for trial in result.trials]
    is_numeric = [all(is_number(values[f]) for values in every if f in values) for f in result.fields]
    return {before + i for i, numeric in enumerate(is_numeric) if numeric}


def side_by_side(result: SweepResult, overlays: Pictures) -> str:
    """Return the pictures of the best trial beside the default's, one row per video and kind."""
    trials = {trial.number: trial for trial in (result.best, result.default) if trial is not None}
    of = {number: dict(overlays.get(number, ())) for number in trials}
    names = sorted({name for pictures in of.values() for name in pictures}, key=_video_and_kind)
    if not names:
        return '<p class="none">Neither the best nor the default trial has left pictures.</p>'
    parts = [
        '<p class="aid">Ground truth and prediction of the same video, best and default. Click a picture to '
        "enlarge it.</p>"
    ]
    for video, kinds in groupby(names, key=lambda name: _video_and_kind(name)[0]):
        parts.append(f"<h3>{html_text(unquote(video))}</h3>")  # a file is named by the quoted id
        for name in kinds:
            figures = [_picture(trials[number], of[number].get(name), result) for number in trials]
            parts.append(f'<div class="pair">{"".join(figures)}</div>')
    return "\n".join(parts)


def _picture(trial: Trial, content: bytes | None, result: SweepResult) -> str:
    role = "default" if trial.number == DEFAULT else "best"
    kind = next((kind for magic, kind in _KINDS.items() if content and content.startswith(magic)), None)
    if content is None:
        shown = '<p class="none">This trial has no such picture.</p>'
    elif kind is None:
        shown = '<p class="none">This file is neither a PNG nor a GIF.</p>'
    else:
        data = base64.b64encode(content).decode()
        shown = f'<img tabindex="0" alt="overlays of {trial.name}" src="data:image/{kind};base64,{data}">'
    caption = f'<b class="{role}">{role}</b> {trial.name}, {scores(trial, result)}'
    return f"<figure><figcaption>{caption}</figcaption>{shown}</figure>"


def _video_and_kind(name: str) -> tuple[str, str]:
    video, _, kind = name.rpartition(".")
    return video, kind
