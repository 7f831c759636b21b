"""Draw the charts of a sweep: history, settings, importance, learning curves, trade-off."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sam2vt.core.evaluation.pages import LIGHT, RAMP, chart, empty_figure
from sam2vt.distributed.sweep.report import marks
from sam2vt.distributed.sweep.report.labels import Scale, axis_name, cut, score_label, short_name, wrapped
from sam2vt.distributed.sweep.results import FAILED, JF, Objective, SweepResult, Trial
from sam2vt.errors import DataError

HOLD_FIRST = "val/J_hold_first"
_NOT_SET = -0.14  # height at which a setting is drawn that a trial does not have
Front = Sequence[tuple[float, float, int]]  # x, y and number of each trial, from left to right


class TooLittleData(DataError):
    """Raised if a chart would show nothing; the report prints its message instead."""


def judged(result: SweepResult, fewest: int) -> list[Trial]:
    """Return the trials that have the objective, however they ended.

    Raises TooLittleData if there are fewer than `fewest`.
    """
    found = [trial for trial in result.trials if math.isfinite(trial.best(result.objectives[0]))]
    if len(found) < fewest:
        said = "One trial has" if found else "No trial has"
        raise TooLittleData(f"{said} a validation after its first step; the chart needs {fewest}.")
    return found


@chart
def history(result: SweepResult) -> Figure:
    """Draw the objective of each trial by its number, and the best so far."""
    objective = result.objectives[0]
    points = [(trial, trial.number, trial.best(objective)) for trial in judged(result, 2)]
    figure, axes = empty_figure("history", f"{objective.name} of each trial by order", 1040, 340)
    last = max(trial.number for trial in result.trials)
    lines = _best_so_far(axes, result, last)
    roles = marks.draw_points(axes, points, result)
    if lost := [t for t in result.trials if t.status == FAILED and math.isnan(t.best(objective))]:
        at_bottom = axes.get_xaxis_transform()
        roles |= marks.draw_points(axes, [(t, t.number, 0.035) for t in lost], result, at_bottom)
    if result.best is not None:
        _name_best(axes, result.best, objective, on_left=result.best.number > last / 2)
    axes.set_xlim(-0.6, last + 0.6)
    axes.margins(y=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
    axes.set(title=axis_name(objective), xlabel="trial")
    marks.legend(figure, [*marks.legend_keys(roles), *lines])
    return figure


def _best_so_far(axes: Axes, result: SweepResult, last: int) -> Sequence[Line2D]:
    """Draw a line of steps through the trials that were better than all before them."""
    objective, best = result.objectives[0], math.nan
    steps = []
    for trial in sorted(result.ranked(), key=lambda trial: trial.number):
        best = trial.best(objective) if objective.better(trial.best(objective), best) else best
        steps.append((trial.number, best))
    if not steps:
        return []
    xs, ys = zip(*steps, (last, best))
    return axes.plot(xs, ys, drawstyle="steps-post", color=LIGHT["best"], linewidth=1.6, label="best so far")


def _name_best(axes: Axes, best: Trial, objective: Objective, on_left: bool) -> None:
    value, up = best.best(objective), objective.mode == "max"
    text = f"{best.name}: {score_label(objective.name, value)}"
    aside = (-8 if on_left else 8, 9 if up else -9)
    look: dict[str, Any] = {"ha": "right" if on_left else "left", "va": "bottom" if up else "top"}
    axes.annotate(text, (best.number, value), aside, textcoords="offset points", color=LIGHT["best"], **look)


@chart
def parameter(result: SweepResult, field: str) -> Figure:
    """Draw the objective against one swept setting, of the trials that have it."""
    have = [(t, v[field]) for t in judged(result, 2) if field in (v := result.values_of(t))]
    if len(have) < 2:
        raise TooLittleData(f"{len(have) or 'No'} trial with a validation has {field}.")
    scale = Scale.of([value for _, value in have], field in result.log_fields)
    name = f"{field}, logarithmic" if field in result.log_fields and not scale.is_categorical else field
    number = list(result.fields).index(field)
    figure, axes = empty_figure(f"parameter-{number}", f"against {field}", 340, 250)
    marks.draw_points(axes, _jittered(have, scale, result.objectives[0]), result)
    _name_values(axes, scale)
    axes.set_xlim(scale.low - 0.05 * scale.span, scale.high + 0.05 * scale.span)
    axes.margins(y=0.12)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_title(wrapped(name, 42), color=LIGHT["ink"])
    return figure


def _jittered(
    have: Sequence[tuple[Trial, Any]], scale: Scale, objective: Objective
) -> Iterator[tuple[Trial, float, float]]:
    """Yield the points, those of a category or of one of few numbers a little apart, so that each shows."""
    few = len({scale.place(value) for _, value in have}) <= 8
    spread = 0.18 if scale.is_categorical else 0.02 * scale.span * few
    for trial, value in have:
        # Multiples of the golden ratio: neighbours are far apart, and a report comes out the same each time.
        shift = spread * (2 * (trial.number * 0.618034 % 1) - 1)
        yield trial, scale.place(value) + shift, trial.best(objective)


def _name_values(axes: Axes, scale: Scale) -> None:
    """Label the ticks of a small chart: on several lines, or upright where there are many categories."""
    many = scale.is_categorical and len(scale.ticks) > 5
    ticks = scale.ticks[:: math.ceil(len(scale.ticks) / 20)]
    width = max(7, 44 // len(ticks))
    labels = [cut(text, 16) if many else wrapped(text, width) for _, text in ticks]
    axes.set_xticks([at for at, _ in ticks], labels, fontsize=11, rotation=90 if many else 0)


@chart
def importances(shares: Mapping[str, float]) -> Figure:
    """Draw one bar per swept setting: its share of the importance of all."""
    if len(shares) < 2:
        raise TooLittleData("Importance compares settings, and fewer than two of them decided anything.")
    figure, axes = empty_figure("importance", "importance of each setting", 1040, 40 + 32 * len(shares))
    places = range(len(shares))
    axes.barh(places, list(shares.values()), height=0.62, color=LIGHT["bar"])
    for place, share in zip(places, shares.values()):
        axes.text(share + 0.012 * max(shares.values()), place, f"{share:.0%}", va="center")
    axes.set_yticks(places, [cut(name, 44) for name in shares], color=LIGHT["ink"])
    axes.set_xlim(0, 1.1 * max(shares.values()))
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0, labelbottom=False)
    return figure


@chart
def curves(result: SweepResult) -> Figure:
    """Draw J&F of all trials over the optimizer step."""
    found = [(trial, curve) for trial in result.trials if (curve := _curve(trial))]
    if not any(len(curve) > 1 for _, curve in found):
        raise TooLittleData("No trial was validated twice, so there is no course to show.")
    figure, axes = empty_figure("curves", "J&F of each trial over steps", 1040, 400)
    roles = {trial.number: marks.role_of(trial, result) for trial, _ in found}
    for trial, curve in found:
        look = {**({"marker": "o"} if len(curve) == 1 else {}), **marks.line_style(roles[trial.number])}
        axes.plot(*zip(*curve), gid=marks.tip(trial, result), **look)
    axes.margins(x=0.01)
    axes.set(title="J&F on whole validation videos, higher is better", xlabel="optimizer step")
    keys = marks.legend_keys(roles.values(), marks.line_style)
    marks.legend(figure, [*keys, *_first_mask_held(axes, result)])
    return figure


def _curve(trial: Trial) -> list[tuple[float, float]]:
    return [
        (row["step"], row[JF]) for row in trial.rows if "step" in row and math.isfinite(row.get(JF, math.nan))
    ]


def _first_mask_held(axes: Axes, result: SweepResult) -> Sequence[Line2D]:
    """Draw a line at the score of repeating the first mask; returns its legend."""
    baseline = [row[HOLD_FIRST] for trial in result.trials for row in trial.rows if HOLD_FIRST in row]
    if not baseline or not math.isfinite(baseline[0]):
        return []
    look: dict[str, Any] = {"color": LIGHT["ink"], "linestyle": ":", "linewidth": 1.5}
    axes.axhline(baseline[0], **look)
    return [Line2D([], [], label="first mask held (J alone, not J&F)", **look)]


@chart
def pareto(result: SweepResult) -> Figure:
    """Draw two objectives against each other, and the front of trials that no other beats in both."""
    upright, across = result.objectives[0], result.objectives[1]
    found = [(t, t.best(across), t.best(upright)) for t in result.ranked()]
    points = [point for point in found if math.isfinite(point[1]) and math.isfinite(point[2])]
    if len(points) < 2:
        raise TooLittleData("Fewer than two trials ran to their end with both objectives.")
    figure, axes = empty_figure("pareto", f"{upright.name} against {across.name}", 1040, 420)
    front = sorted((x, y, t.number) for t, x, y in points if t in result.pareto())
    # Steps, not a slope: no trial is known to reach a point between two of the front.
    steps = "steps-post" if across.mode == "min" else "steps-pre"
    axes.plot(*zip(*((x, y) for x, y, _ in front)), drawstyle=steps, color=LIGHT["bar"], linewidth=1.6)
    roles = marks.draw_points(axes, points, result)
    for x, y, number in _apart(front, [x for _, x, _ in points], [y for _, _, y in points]):
        axes.annotate(str(number), (x, y), (-7, 7), textcoords="offset points", ha="right", fontsize=11)
    axes.margins(0.08)
    axes.set(title=axis_name(upright), xlabel=axis_name(across))
    front_key = Line2D([], [], color=LIGHT["bar"], label="no trial is better in both")
    marks.legend(figure, [*marks.legend_keys(roles), front_key])
    return figure


def _apart(front: Front, xs: Sequence[float], ys: Sequence[float]) -> Iterator[tuple[float, float, int]]:
    """Yield the points of the front whose names do not overlap; the table lists all."""
    wide, high = (0.04 * (max(all_of) - min(all_of)) for all_of in (xs, ys))
    named: list[tuple[float, float]] = []
    for x, y, number in front:
        near = (abs(x - a) < wide and abs(y - b) < 1.5 * high for a, b in named)
        if not any(near):
            named.append((x, y))
            yield x, y, number


@chart
def parallel(result: SweepResult) -> Figure:
    """Draw one line per trial through its swept values, coloured by the objective, the last axis."""
    objective = result.objectives[0]
    trials = [trial for trial in judged(result, 2) if result.values_of(trial)]
    fields = [name for name in result.fields if any(name in result.values_of(t) for t in trials)]
    if len(fields) < 2:
        raise TooLittleData("Fewer than two settings are swept: the chart above shows all there is.")
    columns = {name: [v[name] for t in trials if name in (v := result.values_of(t))] for name in fields}
    scales = {name: Scale.of(values, name in result.log_fields) for name, values in columns.items()}
    ramp = _Ramp.of([_height(trial, objective) for trial in trials])
    width = max(1040, 150 * (len(fields) + 1))
    figure, axes = empty_figure("parallel", "swept values of each trial", width, 430)
    # The best is drawn last, above the others.
    for trial in sorted(trials, key=lambda trial: (_height(trial, objective), -trial.number)):
        _draw_trial(axes, trial, result, scales, ramp)
    missing = {name for name, values in columns.items() if len(values) < len(trials)}
    for place, name in enumerate(fields):
        _setting_axis(axes, place, name, scales[name], with_not_set=name in missing)
    _objective_axis(axes, len(fields), objective, ramp)
    axes.set_xlim(-0.12, len(fields) + 0.4)
    axes.set_ylim((_NOT_SET if missing else 0) - 0.06, 1.05)
    axes.set_axis_off()
    roles = {marks.role_of(trial, result) for trial in trials}
    marks.legend(figure, marks.legend_keys(roles & {marks.BEST, marks.UNSWEPT}, marks.line_style))
    return figure


def _draw_trial(
    axes: Axes, trial: Trial, result: SweepResult, scales: Mapping[str, Scale], ramp: _Ramp
) -> None:
    values, height = result.values_of(trial), _height(trial, result.objectives[0])
    role = marks.role_of(trial, result)
    ys = [scale.unit(values[name]) if name in values else _NOT_SET for name, scale in scales.items()]
    by_height: dict[str, Any] = {"color": ramp.colour(height), "linewidth": 1.5}
    look = marks.line_style(role) if role in (marks.BEST, marks.UNSWEPT) else by_height
    axes.plot(range(len(scales) + 1), [*ys, ramp.share(height)], gid=marks.tip(trial, result), **look)


def _setting_axis(axes: Axes, place: float, name: str, scale: Scale, with_not_set: bool) -> None:
    """Draw the upright axis of a setting, with its labels to the right and above the lines."""
    ticks = [(scale.share(at), cut(text, 22)) for at, text in scale.ticks]
    ticks += [(_NOT_SET, "not set")] * with_not_set
    axes.plot([place, place], [0, 1], color=LIGHT["point"], linewidth=1, zorder=6)
    axes.text(place, 1.05, wrapped(name, 20), ha="left", va="bottom", fontsize=11)
    ground = {"facecolor": LIGHT["paper"], "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
    for at, text in ticks:
        axes.plot([place], [at], marker="_", markersize=7, color=LIGHT["point"], zorder=6)
        axes.text(
            place + 0.05, at, text, va="center", fontsize=10.5, zorder=7, color=LIGHT["muted"], bbox=ground
        )


def _objective_axis(axes: Axes, place: float, objective: Objective, ramp: _Ramp) -> None:
    """Draw the last axis in the colours of the lines; the best is at the top."""
    edges = ramp.edges()
    for colour, *ends in zip(RAMP, edges, edges[1:]):
        axes.plot([place, place], ends, color=colour, linewidth=9, solid_capstyle="butt", zorder=4)
    axes.text(place, 1.05, short_name(objective.name), ha="left", va="bottom", fontsize=11, weight="bold")
    for tick in MaxNLocator(5).tick_values(ramp.bottom, ramp.high):
        if ramp.bottom <= tick <= ramp.high:
            text = f"{tick if objective.mode == 'max' else -tick:.4g}"
            at = (place + 0.08, ramp.share(tick))
            axes.text(*at, text, va="center", fontsize=10.5, color=LIGHT["muted"])


@dataclass(frozen=True)
class _Ramp:
    """Colours by height; the lowest tenth shares one, or a collapsed trial would use up the others."""

    bottom: float
    low: float
    high: float

    @classmethod
    def of(cls, heights: Iterable[float]) -> _Ramp:
        """Return the ramp over the heights of all trials."""
        ordered = sorted(heights)
        return cls(ordered[0], ordered[len(ordered) // 10], ordered[-1])

    def colour(self, height: float) -> str:
        """Return the colour of lines that end at `height`."""
        share = (height - self.low) / ((self.high - self.low) or 1)
        return RAMP[max(0, min(len(RAMP) - 1, int(share * len(RAMP))))]

    def share(self, height: float) -> float:
        """Return the place of `height` as a share of the axis."""
        return (height - self.bottom) / ((self.high - self.bottom) or 1)

    def edges(self) -> list[float]:
        """Return the shares of the axis at which colours change, from bottom to top."""
        inner = [self.low + (self.high - self.low) * i / len(RAMP) for i in range(1, len(RAMP))]
        return [self.share(height) for height in (self.bottom, *inner, self.high)]


def _height(trial: Trial, objective: Objective) -> float:
    """Return the objective, negated if the lowest is best."""
    return trial.best(objective) if objective.mode == "max" else -trial.best(objective)
