"""Write the HTML page of a sweep, with its sections in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sam2vt.core.evaluation.pages import Section, html_page
from sam2vt.core.storage.disk import write_whole
from sam2vt.distributed.sweep.report import charts, sections
from sam2vt.distributed.sweep.report.charts import TooLittleData
from sam2vt.distributed.sweep.report.importance import FEWEST_TRIALS, importance
from sam2vt.distributed.sweep.report.labels import html_text, short_name
from sam2vt.distributed.sweep.report.sections import Pictures
from sam2vt.distributed.sweep.results import SweepResult

_NONE: Pictures = MappingProxyType({})
# How to read each chart; {} is the objective.
_HISTORY = (
    "Each mark is a trial at its best validation, the line the best {} so far of trials that ran to their "
    "end: where it has been flat for long, more trials would gain little. A cross at the bottom failed "
    "before a validation."
)
_PARALLEL = (
    "A line is a trial, the bluer the better its {}. Where blue lines pass an axis close together, that "
    "setting matters and this is its range."
)
_CURVES = (
    "Validations of each trial. A best trial that still rises at its end asks for more steps; a line that "
    "falls early, for a lower learning rate."
)
_PARAMETERS = (
    '{} (upwards) against each swept value. <span class="best">★</span> best, '
    '<span class="default">◆</span> default, <span class="point">●</span> ran to its end, '
    '<span class="point">○</span> stopped early, '
    '<span class="failed">\N{MULTIPLICATION SIGN}</span> failed.'
)


def write_report(result: SweepResult, path: str | Path, overlays: Pictures = _NONE) -> None:
    """Write the page; readers see the earlier one until it is complete.

    `overlays` holds by number of trial pairs of a name and the bytes of a PNG or GIF; those of the best and
    of the default trial are shown.
    """
    page = render(result, overlays)
    with write_whole(path) as written:
        written.write_text(page, encoding="utf-8")


def render(result: SweepResult, overlays: Pictures = _NONE) -> str:
    """Return the page as HTML."""
    head = f'<p class="verdict">{sections.verdict(result)}</p>\n<p class="note">{sections.counts(result)}</p>'
    return html_page(f"Sweep {html_text(result.name)}", head, _sections(result, overlays))


def _sections(result: SweepResult, overlays: Pictures) -> Iterator[Section]:
    """Yield (id, heading, content) in the order of the page."""
    name = html_text(short_name(result.objectives[0].name))
    yield "values", "Best and default", sections.comparison(result)
    yield "history", "History", _drawn(_HISTORY.format(name), charts.history, result)
    yield "parameters", "Each setting", _each_parameter(result, _PARAMETERS.format(name))
    yield "parallel", "Settings together", _drawn(_PARALLEL.format(name), charts.parallel, result)
    yield "importance", "Importance", _importance(result)
    yield "curves", "Learning curves", _drawn(_CURVES, charts.curves, result)
    yield "overlays", "Overlays", sections.side_by_side(result, overlays)
    yield "trials", "All trials", sections.all_trials(result)
    if len(result.objectives) > 1:
        yield "pareto", "Trade-off", _trade_off(result)


def _drawn(aid: str, draw: Callable[..., str], *arguments: Any) -> str:
    """Return a chart below the line that says how to read it, or the reason why there is none."""
    try:
        return f'<p class="aid">{aid}</p>\n<div class="chart">{draw(*arguments)}</div>'
    except TooLittleData as error:
        return f'<p class="none">{html_text(error)}</p>'


def _each_parameter(result: SweepResult, aid: str) -> str:
    shown, reasons = [], []
    for field in result.fields:
        try:
            shown.append(f'<div class="chart">{charts.parameter(result, field)}</div>')
        except TooLittleData as error:
            reasons.append(f'<p class="none">{html_text(error)}</p>')
    grid = f'<p class="aid">{aid}</p>\n<div class="grid">{"".join(shown)}</div>' if shown else ""
    return grid + "".join(dict.fromkeys(reasons)) or '<p class="none">Nothing is swept.</p>'


def _importance(result: SweepResult) -> str:
    shares, ended = importance(result), len(result.ranked())
    if not shares:
        there = {0: "is none", 1: "is one"}.get(ended, f"are {ended}")
        why = (
            f"Importance needs {FEWEST_TRIALS} trials that ran to their end; there {there}."
            if ended < FEWEST_TRIALS
            else "Nothing sets the best trials apart: no setting varied, or all trials came out alike."
        )
        return f'<p class="none">{why}</p>'
    aid = (
        f"How differently each setting is spread among the best third of the {ended} trials that ran to "
        "their end than among all of them (PED-ANOVA), as a share of the sum."
    )
    hint = " With so few trials, take it as a hint." if ended < 20 else ""
    return _drawn(aid + hint, charts.importances, shares)


def _trade_off(result: SweepResult) -> str:
    side = "left" if result.objectives[1].mode == "min" else "right"
    up = "Higher" if result.objectives[0].mode == "max" else "Lower"
    aid = f"{up} and further {side} is better in both. The choice is between the trials on the line."
    return _drawn(aid, charts.pareto, result) + sections.trade_off(result)
