"""The report of a sweep as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from sam2vt.distributed.sweep import charts
from sam2vt.distributed.sweep.charts import TooLittleData, score_label, short_name
from sam2vt.distributed.sweep.importance import (
    FEWEST_TRIALS,
    importance,
    is_number,
    swept_values,
    value_label,
)
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

Pictures = Mapping[int, Sequence[tuple[str, bytes]]]
SCORES = (JF, "val/J", "val/F")
_KINDS = {b"\x89PNG\r\n\x1a\n": "png", b"GIF87a": "gif", b"GIF89a": "gif"}
_NONE: Pictures = MappingProxyType({})
_NO_LOADS = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(result: SweepResult, path: str | Path, overlays: Pictures = _NONE) -> None:
    """Writes the page; whoever opens the file meanwhile sees the one before.

    `overlays` are pictures by number of trial, each a name and the bytes of a PNG or GIF; those of the
    best and of the default trial are shown.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(render(result, overlays), encoding="utf-8")
    os.replace(temporary, path)


def render(result: SweepResult, overlays: Pictures = _NONE) -> str:
    """The page of a sweep."""
    title = f"Sweep {_text(result.name)}"
    sections = list(_sections(result, overlays))
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, heading, _ in sections)
    content = "\n".join(
        f'<section id="{name}">\n<h2>{heading}</h2>\n{body}\n</section>' for name, heading, body in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_NO_LOADS}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{title}</title>\n<style>{_style()}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n"
        f'<p class="verdict">{_verdict(result)}</p>\n<p class="note">{_counts(result)}</p>\n'
        f"<nav>{links}</nav>\n</header>\n<main>\n{content}\n</main>\n</body>\n</html>\n"
    )


def best_row(trial: Trial, result: SweepResult) -> Mapping[str, float]:
    """The validation that the trial is compared by; empty where there is none."""
    objective = result.objectives[0]
    best = trial.best(objective)
    rows = (row for row in trial.rows if row.get("step", 0) > 0 and row.get(objective.name) == best)
    return next(rows, {})


def _sections(result: SweepResult, overlays: Pictures) -> Iterator[tuple[str, str, str]]:
    """(id, heading, content) in the order of the page."""
    name = _text(short_name(result.objectives[0].name))
    yield "values", "Best and default", _comparison(result)
    yield (
        "history",
        "History",
        _drawn(
            f"Each mark is a trial at its best validation, the line the best {name} so far of trials that "
            "ran to their end: where it has been flat for long, more trials would gain little. A cross at "
            "the bottom failed before a validation.",
            charts.history,
            result,
        ),
    )
    yield "parameters", "Each setting", _each_parameter(result)
    yield (
        "parallel",
        "Settings together",
        _drawn(
            f"A line is a trial, the bluer the better its {name}. Where blue lines pass an axis close "
            "together, that setting matters and this is its range.",
            charts.parallel,
            result,
        ),
    )
    yield "importance", "Importance", _importance(result)
    yield (
        "curves",
        "Learning curves",
        _drawn(
            "Validations of each trial. A best trial that still rises at its end asks for more steps; a line "
            "that falls early, for a lower learning rate.",
            charts.curves,
            result,
        ),
    )
    yield "overlays", "Overlays", _overlays(result, overlays)
    yield "trials", "All trials", _trials(result)
    if len(result.objectives) > 1:
        yield "pareto", "Trade-off", _pareto(result)


def _drawn(aid: str, draw: Callable[..., str], *arguments: Any) -> str:
    """A chart below the line that says how to read it, or why there is none."""
    try:
        return f'<p class="aid">{aid}</p>\n<div class="chart">{draw(*arguments)}</div>'
    except TooLittleData as error:
        return f'<p class="none">{_text(error)}</p>'


def _each_parameter(result: SweepResult) -> str:
    name = _text(short_name(result.objectives[0].name))
    shown, reasons = [], []
    for field in result.fields:
        try:
            shown.append(f'<div class="chart">{charts.parameter(result, field)}</div>')
        except TooLittleData as error:
            reasons.append(f'<p class="none">{_text(error)}</p>')
    key = (
        '<span class="best">★</span> best, <span class="default">◆</span> default, '
        '<span class="point">●</span> ran to its end, <span class="point">○</span> stopped early, '
        '<span class="failed">\N{MULTIPLICATION SIGN}</span> failed'
    )
    aid = f'<p class="aid">{name} (upwards) against each swept value. {key}.</p>\n' if shown else ""
    grid = f'<div class="grid">{"".join(shown)}</div>' if shown else ""
    return aid + grid + "".join(dict.fromkeys(reasons)) or '<p class="none">Nothing is swept.</p>'


def _importance(result: SweepResult) -> str:
    shares, ended = importance(result), len(result.ranked())
    if not shares:
        few = ended < FEWEST_TRIALS
        why = (
            f"Importance needs {FEWEST_TRIALS} trials that ran to their end; there {_is(ended)}."
            if few
            else "Nothing sets the best trials apart: no setting varied, or all trials came out alike."
        )
        return f'<p class="none">{why}</p>'
    aid = (
        f"How differently each setting is spread among the best third of the {ended} trials that ran to "
        "their end than among all of them (PED-ANOVA), as a share of the sum."
    )
    hint = " With so few trials, take it as a hint." if ended < 20 else ""
    return _drawn(aid + hint, charts.importances, shares)


def _verdict(result: SweepResult) -> str:
    objective, best, default = result.objectives[0], result.best, result.default
    if best is None:
        return "No trial ran to its end."
    if best.number == DEFAULT:
        return f"No trial beat the default, with {_scores(best, result)}."
    said = f"<b>{best.name}</b> is the best, with {_scores(best, result)}"
    unswept = default.best(objective) if default else math.nan
    if default is None or math.isnan(unswept):
        return f"{said}; the default came to nothing to compare."
    ended = "" if default.status == DONE else f" ({default.status})"
    gain = score_label(objective.name, abs(_as_shown(objective, best) - _as_shown(objective, default)))
    better = "loss" if objective.better(unswept, best.best(objective)) else "gain"
    return f"{said}; the default{ended} has {_scores(default, result)}: a {better} of <b>{gain}</b>."


def _as_shown(objective: Objective, trial: Trial) -> float:
    """Rounded, so that the difference is that of the numbers beside it."""
    return float(score_label(objective.name, trial.best(objective)))


def _scores(trial: Trial, result: SweepResult) -> str:
    """The deciding objective, and J&F where that is another."""
    objective = result.objectives[0]
    names = dict.fromkeys([objective.name, JF])
    row = {**best_row(trial, result), objective.name: trial.best(objective)}
    parts = [f"{_text(short_name(n))} <b>{score_label(n, row[n])}</b>" for n in names if n in row]
    return ", ".join(parts)


def _counts(result: SweepResult) -> str:
    words = {DONE: "ran to the end", STOPPED: "stopped early", FAILED: "failed", RUNNING: "still running"}
    counts = {status: sum(trial.status == status for trial in result.trials) for status in words}
    parts = ", ".join(f"{count} {words[status]}" for status, count in counts.items() if count)
    num = len(result.trials)
    total = _duration(sum(trial.seconds for trial in result.trials))
    return f"{num} trial{'' if num == 1 else 's'}{': ' + parts if parts else ''}; {total} of trials in all."


def _comparison(result: SweepResult) -> str:
    """The settings of the best trial beside those of the default."""
    best = result.best
    if best is None:
        head = ["setting", "default"]
        rows = [[_broken(f), _value(result.defaults, f)] for f in result.fields]
        return _table(head, rows, numeric=set())
    values, rows, classes = swept_values(best, result), [], []
    for field in result.fields:
        change = _change(result.defaults.get(field), values.get(field), field in result.log_fields)
        rows.append([_broken(field), _value(result.defaults, field), _value(values, field), change])
        classes.append("" if change else "same")
    return _table(["setting", "default", f"best ({best.name})", "change"], rows, {1, 2, 3}, classes)


def _change(old: Any, new: Any, log: bool) -> str:
    if old == new or new is None:
        return "" if old == new else "not set"
    if not is_number(old) or not is_number(new):
        return "changed"
    if log and old > 0 and new > 0:
        return f"\N{MULTIPLICATION SIGN} {new / old:.3g}"
    return f"{new - old:+.3g}"


def _pareto(result: SweepResult) -> str:
    side = "left" if result.objectives[1].mode == "min" else "right"
    up = "Higher" if result.objectives[0].mode == "max" else "Lower"
    aid = f"{up} and further {side} is better in both. The choice is between the trials on the line."
    head = ["trial", *(_text(short_name(o.name)) for o in result.objectives), *map(_broken, result.fields)]
    rows = [
        [
            trial.name,
            *_objectives(trial, result),
            *(_value(swept_values(trial, result), f) for f in result.fields),
        ]
        for trial in result.pareto()
    ]
    before = 1 + len(result.objectives)
    table = _table(head, rows, {*range(1, before), *_numeric(result, before)}) if rows else ""
    return _drawn(aid, charts.pareto, result) + table


def _trials(result: SweepResult) -> str:
    """All trials: those that ran to their end by the objective, then the others."""
    others = [name for name in SCORES if name not in {o.name for o in result.objectives}]
    head = ["trial", "status", "reason", "steps", *(_text(short_name(o.name)) for o in result.objectives)]
    head += [*map(short_name, others), *map(_broken, result.fields), "seconds"]
    rows, classes = [], []
    for trial in _in_order(result):
        row = best_row(trial, result)
        scores = [score_label(name, row.get(name, math.nan)) for name in others]
        values = [_value(swept_values(trial, result), field) for field in result.fields]
        status, reason = escape(trial.status), f'<span class="reason">{_text(trial.reason)}</span>'
        start = [trial.name, f'<span class="{status}">{status}</span>', reason, str(trial.steps)]
        rows.append([*start, *_objectives(trial, result), *scores, *values, f"{trial.seconds:.0f}"])
        is_best = result.best is not None and trial.number == result.best.number
        classes.append("is-best" if is_best else "is-default" if trial.number == DEFAULT else "")
    if not rows:
        return '<p class="none">No trial has begun.</p>'
    before = 4 + len(result.objectives) + len(others)
    return _table(head, rows, {*range(3, before), *_numeric(result, before), len(head) - 1}, classes)


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


def _objectives(trial: Trial, result: SweepResult) -> list[str]:
    return [score_label(o.name, trial.best(o)) for o in result.objectives]


def _overlays(result: SweepResult, overlays: Pictures) -> str:
    """The pictures of the best trial beside the default's, a row a video and kind."""
    trials = {trial.number: trial for trial in (result.best, result.default) if trial is not None}
    of = {number: dict(overlays.get(number, ())) for number in trials}
    names = sorted({name for pictures in of.values() for name in pictures}, key=_video_first)
    if not names:
        return '<p class="none">Neither the best nor the default trial has left pictures.</p>'
    rows: list[str] = []
    videos: set[str] = set()
    for name in names:
        heading = "" if _video(name) in videos else f"<h3>{_text(_video(name))}</h3>\n"
        videos.add(_video(name))
        figures = [_picture(trials[number], of[number].get(name), result) for number in trials]
        rows.append(f'{heading}<div class="pair">{"".join(figures)}</div>')
    aid = "Ground truth and prediction of the same video, best and default. Click a picture to enlarge it."
    return f'<p class="aid">{aid}</p>\n' + "\n".join(rows)


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
    caption = f'<b class="{role}">{role}</b> {trial.name}, {_scores(trial, result)}'
    return f"<figure><figcaption>{caption}</figcaption>{shown}</figure>"


def _video_first(name: str) -> tuple[str, str]:
    stem, _, ending = name.rpartition(".")
    return stem, ending


def _video(name: str) -> str:
    """Overlays are named by their video's id, quoted."""
    return unquote(name.rpartition(".")[0])


def _table(
    head: Sequence[str], rows: Iterable[Sequence[str]], numeric: set[int], classes: Sequence[str] = ()
) -> str:
    """Cells are HTML; those of the columns `numeric` stand to the right."""
    kinds = [' class="number"' if i in numeric else "" for i in range(len(head))]
    lines = ["".join(f'<th scope="col"{kind}>{cell}</th>' for cell, kind in zip(head, kinds))]
    for i, row in enumerate(rows):
        own = f' class="{classes[i]}"' if classes and classes[i] else ""
        first, *others = row
        cells = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(others, kinds[1:]))
        lines.append(f'<tr{own}><th scope="row">{first}</th>{cells}</tr>')
    body = "\n".join(lines[1:])
    return (
        '<div class="scroll"><table>\n'
        f"<thead><tr>{lines[0]}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _value(values: Mapping[str, Any], field: str) -> str:
    return _text(value_label(values[field])) if field in values else '<span class="unset">not set</span>'


def _text(value: Any) -> str:
    """Escaped, without characters that do not print."""
    return escape(value_label(str(value)))


def _numeric(result: SweepResult, before: int) -> set[int]:
    """The columns of swept fields that hold numbers, behind so many others."""
    every = [swept_values(trial, result) for trial in result.trials]
    is_numeric = [all(is_number(values[f]) for values in every if f in values) for f in result.fields]
    return {before + i for i, numeric in enumerate(is_numeric) if numeric}


def _broken(name: str) -> str:
    """A dotted name that may break behind its joints."""
    return _text(name).replace(".", ".<wbr>").replace("_", "_<wbr>")


def _is(number: int) -> str:
    return {0: "is none", 1: "is one"}.get(number, f"are {number}")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _style() -> str:
    light = {**charts.LIGHT, **{f"ramp{i}": colour for i, colour in enumerate(charts.RAMP)}}
    dark = {**charts.DARK, **{f"ramp{i}": colour for i, colour in enumerate(charts.DARK_RAMP)}}
    themes = [";".join(f"--{name}:{colour}" for name, colour in theme.items()) for theme in (light, dark)]
    return (
        f":root{{color-scheme:light dark;--page:#f5f7f9;{themes[0]}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{--page:#0d1117;{themes[1]}}}}}\n{_CSS}"
    )


_CSS = """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,"DejaVu Sans",sans-serif}
header,main{max-width:1120px;margin:0 auto;padding:0 16px}
header{padding-top:32px}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 12px;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:0 0 4px}
h3{font-size:1rem;margin:20px 0 8px;overflow-wrap:anywhere}
.verdict{font-size:1.2rem;margin:0 0 4px}
.note,.aid,.none{color:var(--muted);margin:0 0 12px;max-width:80ch}
.none{font-style:italic}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin:16px 0 20px;font-size:.9rem}
a{color:var(--bar);text-decoration:none}
a:hover,a:focus{text-decoration:underline}
section{background:var(--paper);border:1px solid var(--grid);border-radius:10px;padding:20px;margin:0 0 20px}
.chart,.scroll{overflow-x:auto}
svg{display:block;width:100%;height:auto}
svg *{stroke-linejoin:round;stroke-linecap:butt}
svg text{font-family:system-ui,"DejaVu Sans",sans-serif!important;
paint-order:stroke;stroke:var(--paper);stroke-width:3px}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(300px,100%),1fr));gap:20px 16px}
.grid svg{min-width:0!important;max-width:none!important}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:6px 10px;border-bottom:1px solid var(--grid);text-align:left;vertical-align:top}
thead th{color:var(--muted);font-weight:600;vertical-align:bottom;line-height:1.25}
tbody th{font-weight:500;white-space:nowrap;position:sticky;left:0;background:var(--paper)}
.number{text-align:right}
#trials td,#pareto td{white-space:nowrap}
.reason:not(:empty){display:block;width:14em;white-space:normal;overflow-wrap:anywhere;font-size:.8rem;line-height:1.35}
.is-best th,.is-best td{font-weight:700}
.is-best th,.best{color:var(--best)}
.is-default th,.default{color:var(--default)}
.failed{color:var(--failed)}
.stopped,.running,.unset,.same td{color:var(--muted)}
.point{color:var(--point)}
.unset{font-style:italic}
.pair{display:grid;margin-bottom:12px;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));gap:12px}
figure{margin:0;min-width:0}
figcaption{font-size:.875rem;margin-bottom:4px}
img{display:block;max-width:100%;height:auto;border-radius:6px;cursor:zoom-in}
@media (max-width:600px){section{padding:14px}th,td{padding:5px 7px}tbody th{white-space:normal}}
img:focus{position:fixed;inset:0;z-index:2;width:100vw;height:100vh;max-width:none;object-fit:contain;
background:rgb(0 0 0/.88);border-radius:0;cursor:zoom-out;outline:none}
"""
