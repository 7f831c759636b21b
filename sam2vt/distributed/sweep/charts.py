"""The charts of a sweep as inline SVG that follows the page's colours."""

from __future__ import annotations

import functools
import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from sam2vt.distributed.sweep.importance import is_number, swept_values, value_label
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
from sam2vt.errors import DataError

HOLD_FIRST = "val/J_hold_first"
# What charts are drawn in; each of them becomes the page's variable of that name, so it must be unique.
LIGHT = {
    "paper": "#ffffff",
    "ink": "#1b2430",
    "muted": "#566273",
    "grid": "#e2e6eb",
    "point": "#8592a3",
    "best": "#0a7d5a",
    "default": "#c4560a",
    "failed": "#c22a44",
    "bar": "#2a6fab",
}
RAMP = ("#c9d2dc", "#a8c0d6", "#82abcf", "#5893c3", "#317ab2", "#176199", "#08467b")  # worst to best
DARK = {
    "paper": "#161b22",
    "ink": "#e6eaf0",
    "muted": "#9aa6b5",
    "grid": "#2b333e",
    "point": "#7d8a9b",
    "best": "#3fcf9b",
    "default": "#f59a4a",
    "failed": "#f2707f",
    "bar": "#5aa5e6",
}
DARK_RAMP = ("#3a4552", "#3f5d7b", "#45769f", "#4f90c3", "#6dafe4", "#98cbf5", "#cfe8ff")
VARIABLES = {
    **{colour: name for name, colour in LIGHT.items()},
    **{c: f"ramp{i}" for i, c in enumerate(RAMP)},
}
BEST, UNSWEPT = "best", "default"
_NOT_SET = -0.14  # where parallel coordinates draw a setting that a trial does not have
_TIP = "tip:"
_NO_XML = "[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"  # characters that XML cannot hold
# Role -> marker, size, name in the legend. Filled, hollow and crossed tell them apart without colour.
MARKS = {
    BEST: ("*", 16, "best"),
    UNSWEPT: ("D", 8, "default"),
    DONE: ("o", 7, "ran to its end"),
    STOPPED: ("o", 6, "stopped early"),
    RUNNING: ("^", 6, "still running"),
    FAILED: ("x", 6.5, "failed"),
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sam2vt",
    "text.parse_math": False,  # names of settings may hold a dollar
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12,
    "text.color": LIGHT["ink"],
    "axes.edgecolor": LIGHT["point"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.titlecolor": LIGHT["muted"],
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titlepad": 10,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.8,
    "xtick.color": LIGHT["point"],
    "ytick.color": LIGHT["point"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["muted"],
    "legend.frameon": False,
}


class TooLittleData(DataError):
    """A chart that would show nothing; the message says why, as a sentence of the report."""


def _chart(draw: Callable[..., Figure]) -> Callable[..., str]:
    """Of a function that draws a figure, one that returns inline SVG, whatever style the user has set."""

    @functools.wraps(draw)
    def as_svg(*args: Any) -> str:
        with matplotlib.rc_context(), warnings.catch_warnings():
            # Of letters that only the browser's fonts have.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_STYLE)
            return _inline(draw(*args))

    return as_svg


@_chart
def history(result: SweepResult) -> Figure:
    """The objective of each trial by its number, and the best so far."""
    objective = result.objectives[0]
    points = [(trial, trial.number, trial.best(objective)) for trial in _judged(result, 2)]
    figure, axes = _figure("history", f"{objective.name} of each trial by order", 1040, 340)
    last = max(trial.number for trial in result.trials)
    lines = _best_so_far(axes, result, last)
    roles = _points(axes, points, result)
    if lost := [t for t in result.trials if t.status == FAILED and math.isnan(t.best(objective))]:
        roles |= _points(axes, [(t, t.number, 0.035) for t in lost], result, axes.get_xaxis_transform())
    if result.best is not None:
        _name_best(axes, result.best, objective, on_left=result.best.number > last / 2)
    axes.set_xlim(-0.6, last + 0.6)
    axes.margins(y=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
    axes.set(title=_axis_name(objective), xlabel="trial")
    _legend(figure, roles, lines)
    return figure


@_chart
def parameter(result: SweepResult, field: str) -> Figure:
    """The objective against one swept setting, of the trials that have it."""
    objective = result.objectives[0]
    have = [(t, v[field]) for t in _judged(result, 2) if field in (v := swept_values(t, result))]
    if len(have) < 2:
        raise TooLittleData(f"{len(have) or 'No'} trial with a validation has {field}.")
    scale = Scale.of([value for _, value in have], field in result.log_fields)
    name = f"{field}, logarithmic" if field in result.log_fields and not scale.is_categorical else field
    figure, axes = _figure(f"parameter-{list(result.fields).index(field)}", f"against {field}", 340, 250)
    # Points of a category, or of one of few numbers, stand a little apart, so that each can be seen.
    few = len({scale.place(value) for _, value in have}) <= 8
    spread = 0.18 if scale.is_categorical else 0.02 * scale.span * few
    points = [
        (t, scale.place(v) + spread * (2 * (t.number * 0.618034 % 1) - 1), t.best(objective)) for t, v in have
    ]
    _points(axes, points, result)
    _name_values(axes, scale)
    axes.set_xlim(scale.low - 0.05 * scale.span, scale.high + 0.05 * scale.span)
    axes.margins(y=0.12)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_title(_wrapped(name, 42), color=LIGHT["ink"])
    return figure


@_chart
def parallel(result: SweepResult) -> Figure:
    """A line a trial through its swept values, coloured by the objective, which is the last axis."""
    objective = result.objectives[0]
    trials = [trial for trial in _judged(result, 2) if swept_values(trial, result)]
    fields = [name for name in result.fields if any(name in swept_values(t, result) for t in trials)]
    if len(fields) < 2:
        raise TooLittleData("Fewer than two settings are swept: the chart above shows all there is.")
    scales = {name: _scale_of(name, trials, result) for name in fields}
    ramp = _Ramp.of([_height(trial, objective) for trial in trials])
    figure, axes = _figure("parallel", "swept values of each trial", max(1040, 150 * (len(fields) + 1)), 430)
    for trial in sorted(trials, key=lambda trial: (_height(trial, objective), -trial.number)):
        values, height, role = swept_values(trial, result), _height(trial, objective), _role(trial, result)
        ys = [scales[name].unit(values[name]) if name in values else _NOT_SET for name in fields]
        own = _line(role) if role in (BEST, UNSWEPT) else {"color": ramp.colour(height), "linewidth": 1.5}
        axes.plot(range(len(fields) + 1), [*ys, ramp.share(height)], gid=_tip(trial, result), **own)
    missing = {name for name in fields for t in trials if name not in swept_values(t, result)}
    for place, name in enumerate(fields):
        ticks = [(scales[name].share(at), _cut(text, 22)) for at, text in scales[name].ticks]
        _upright(axes, place, name, ticks + [(_NOT_SET, "not set")] * (name in missing))
    _objective_axis(axes, len(fields), objective, ramp)
    axes.set_xlim(-0.12, len(fields) + 0.4)
    axes.set_ylim((_NOT_SET if missing else 0) - 0.06, 1.05)
    axes.set_axis_off()
    roles = {_role(trial, result) for trial in trials}
    _legend(figure, set(), [_key(role) for role in (BEST, UNSWEPT) if role in roles])
    return figure


@_chart
def importances(shares: Mapping[str, float]) -> Figure:
    """A bar a swept setting: its share of what decided."""
    if len(shares) < 2:
        raise TooLittleData("Importance compares settings, and fewer than two of them decided anything.")
    figure, axes = _figure("importance", "importance of each setting", 1040, 40 + 32 * len(shares))
    places = range(len(shares))
    axes.barh(places, list(shares.values()), height=0.62, color=LIGHT["bar"])
    for place, share in zip(places, shares.values()):
        axes.text(share + 0.012 * max(shares.values()), place, f"{share:.0%}", va="center")
    axes.set_yticks(places, [_cut(name, 44) for name in shares], color=LIGHT["ink"])
    axes.set_xlim(0, 1.1 * max(shares.values()))
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0, labelbottom=False)
    return figure


@_chart
def curves(result: SweepResult) -> Figure:
    """J&F of all trials over the optimizer step."""
    found = [(trial, _curve(trial)) for trial in result.trials]
    found = [(trial, curve) for trial, curve in found if curve]
    if not any(len(curve) > 1 for _, curve in found):
        raise TooLittleData("No trial was validated twice, so there is no course to show.")
    figure, axes = _figure("curves", "J&F of each trial over steps", 1040, 400)
    for trial, curve in found:
        alone = {"marker": "o"} if len(curve) == 1 else {}
        axes.plot(*zip(*curve), gid=_tip(trial, result), **{**alone, **_line(_role(trial, result))})
    roles = {_role(trial, result) for trial, _ in found}
    handles = [_key(role) for role in MARKS if role in roles]
    baseline = [row[HOLD_FIRST] for trial in result.trials for row in trial.rows if HOLD_FIRST in row]
    if baseline and math.isfinite(baseline[0]):
        look: dict[str, Any] = {"color": LIGHT["ink"], "linestyle": ":", "linewidth": 1.5}
        axes.axhline(baseline[0], **look)
        handles.append(Line2D([], [], label="first mask held (J alone, not J&F)", **look))
    axes.margins(x=0.01)
    axes.set(title="J&F on whole validation videos, higher is better", xlabel="optimizer step")
    _legend(figure, set(), handles)
    return figure


@_chart
def pareto(result: SweepResult) -> Figure:
    """Two objectives against each other, and the trials that none beats in both."""
    upright, across = result.objectives[0], result.objectives[1]
    found = [(t, t.best(across), t.best(upright)) for t in result.ranked()]
    points = [point for point in found if math.isfinite(point[1]) and math.isfinite(point[2])]
    if len(points) < 2:
        raise TooLittleData("Fewer than two trials ran to their end with both objectives.")
    figure, axes = _figure("pareto", f"{upright.name} against {across.name}", 1040, 420)
    front = sorted((x, y, t.number) for t, x, y in points if t in result.pareto())
    axes.plot(
        [x for x, _, _ in front],
        [y for _, y, _ in front],
        drawstyle="steps-post" if across.mode == "min" else "steps-pre",
        color=LIGHT["bar"],
        linewidth=1.6,
    )
    roles = _points(axes, points, result)
    for x, y, number in _apart(front, [x for _, x, _ in points], [y for _, _, y in points]):
        axes.annotate(str(number), (x, y), (-7, 7), textcoords="offset points", ha="right", fontsize=11)
    axes.margins(0.08)
    axes.set(title=_axis_name(upright), xlabel=_axis_name(across))
    _legend(figure, roles, [Line2D([], [], color=LIGHT["bar"], label="no trial is better in both")])
    return figure


def _apart(
    front: Sequence[tuple[float, float, int]], xs: Sequence[float], ys: Sequence[float]
) -> Iterator[tuple[float, float, int]]:
    """Of the front's points those whose names do not run into each other; the table has the others."""
    wide, high = (0.04 * (max(all_of) - min(all_of)) for all_of in (xs, ys))
    named: list[tuple[float, float]] = []
    for x, y, number in front:
        near = (abs(x - a) < wide and abs(y - b) < 1.5 * high for a, b in named)
        if not any(near):
            named.append((x, y))
            yield x, y, number


@dataclass(frozen=True)
class Scale:
    """Where the values of a setting stand on an axis that runs from `low` to `high`."""

    place: Callable[[Any], float]
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    is_categorical: bool = False

    @property
    def span(self) -> float:
        return self.high - self.low

    def unit(self, value: Any) -> float:
        """Its place as a share of the axis."""
        return self.share(self.place(value))

    def share(self, place: float) -> float:
        return (place - self.low) / self.span

    @classmethod
    def of(cls, values: Sequence[Any], log: bool) -> Scale:
        """Numbers by their size, or logarithmically; everything else by category."""
        if not all(map(is_number, values)):
            return cls._categories(sorted({value_label(value) for value in values}))
        if log and max(values) > 0:
            return cls._logarithmic(values)
        low, high = _widened(min(values), max(values))
        whole = all(isinstance(value, int) for value in values)
        found = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], integer=whole).tick_values(low, high)
        ticks = [(float(tick), _tidy(f"{tick:.4g}")) for tick in found if low <= tick <= high]
        return cls(float, low, high, ticks)

    @classmethod
    def _categories(cls, names: Sequence[str]) -> Scale:
        places = {name: float(place) for place, name in enumerate(names)}
        ticks = [(place, name) for name, place in places.items()]
        return cls(
            lambda value: places[value_label(value)], -0.4, len(names) - 0.6, ticks, is_categorical=True
        )

    @classmethod
    def _logarithmic(cls, values: Sequence[float]) -> Scale:
        """Values that have no logarithm, such as a loss weight of zero, stand apart at its lower end."""
        positive = [math.log10(value) for value in values if value > 0]
        low, high = _widened(min(positive), max(positive))
        ticks = [(math.log10(tick), _power(tick)) for tick in _log_ticks(low, high)]
        others = sorted({float(value) for value in values if value <= 0})
        apart = low - 0.2 * (high - low)
        if others:
            ticks.insert(0, (apart, ", ".join(f"{value:.3g}" for value in others)))
        return cls(lambda v: math.log10(v) if v > 0 else apart, apart if others else low, high, ticks)


def _scale_of(field: str, trials: Sequence[Trial], result: SweepResult) -> Scale:
    values = [found[field] for t in trials if field in (found := swept_values(t, result))]
    return Scale.of(values, field in result.log_fields)


def _widened(low: float, high: float) -> tuple[float, float]:
    """A range that is not empty."""
    around = 0.0 if high > low else abs(high) / 2 or 0.5
    return float(low - around), float(high + around)


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks: list[float] = []
    for factors in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
        ticks = [f * 10.0**d for d in decades for f in factors if low <= math.log10(f * 10.0**d) <= high]
        if len(ticks) > 2:
            return ticks[:: math.ceil(len(ticks) / 5)]
    return ticks or [10**low, 10**high]


def score_label(name: str, value: float) -> str:
    """An objective in few characters."""
    if math.isnan(value):
        return "\N{EN DASH}"
    return f"{value:.3f}" if name.startswith("val/") else f"{value:.3g}"


def short_name(name: str) -> str:
    """An objective as people call it."""
    return name.removeprefix("val/").replace("_", " ")


def _axis_name(objective: Objective) -> str:
    return f"{short_name(objective.name)}, {'higher' if objective.mode == 'max' else 'lower'} is better"


def _judged(result: SweepResult, fewest: int) -> list[Trial]:
    """Trials that have the objective, however they ended."""
    found = [trial for trial in result.trials if math.isfinite(trial.best(result.objectives[0]))]
    if len(found) < fewest:
        said = "One trial has" if found else "No trial has"
        raise TooLittleData(f"{said} a validation after its first step; the chart needs {fewest}.")
    return found


def _role(trial: Trial, result: SweepResult) -> str:
    best = result.best
    if best is not None and trial.number == best.number:
        return BEST
    return UNSWEPT if trial.number == DEFAULT and trial.status != FAILED else trial.status


def _height(trial: Trial, objective: Objective) -> float:
    """The objective, so that the higher is the better."""
    return trial.best(objective) if objective.mode == "max" else -trial.best(objective)


def _colour(role: str) -> str:
    return LIGHT.get(role, LIGHT["point"])


def _curve(trial: Trial) -> list[tuple[float, float]]:
    return [
        (row["step"], row[JF]) for row in trial.rows if "step" in row and math.isfinite(row.get(JF, math.nan))
    ]


def _tip(trial: Trial, result: SweepResult) -> str:
    """What a browser shows over the trial's mark."""
    scores = ", ".join(
        f"{short_name(o.name)} {score_label(o.name, trial.best(o))}" for o in result.objectives
    )
    values = [f"{name}: {value_label(value)}" for name, value in swept_values(trial, result).items()]
    return _TIP + "; ".join([f"{trial.name}, {trial.status}: {scores}", *values])


def _figure(name: str, label: str, width: float, height: float) -> tuple[Figure, Axes]:
    """An empty chart of so many pixels, by a name that is its own on the page."""
    layout = ConstrainedLayoutEngine(w_pad=4 / 72, h_pad=4 / 72)
    figure = Figure(figsize=(width / 72, height / 72), layout=layout, facecolor="none")
    figure.set_gid(name)
    figure.set_label(label)
    return figure, figure.add_subplot(facecolor="none")


def _points(
    axes: Axes, points: Iterable[tuple[Trial, float, float]], result: SweepResult, transform: Any = None
) -> set[str]:
    """A mark a trial, as its role has it; returns the roles."""
    roles = set()
    for trial, x, y in points:
        role = _role(trial, result)
        roles.add(role)
        axes.plot(
            [x],
            [y],
            gid=_tip(trial, result),
            clip_on=False,
            zorder=4 + (role in (BEST, UNSWEPT)),
            transform=transform or axes.transData,
            **_mark(role),
        )
    return roles


def _mark(role: str) -> dict[str, Any]:
    marker, size, _ = MARKS[role]
    hollow = role in (STOPPED, RUNNING)
    edge = _colour(role) if hollow or role == FAILED else LIGHT["paper"]
    face = LIGHT["paper"] if hollow else _colour(role)
    edges = {
        "markerfacecolor": face,
        "markeredgecolor": edge,
        "markeredgewidth": 1.6 if role == FAILED else 1.2 if hollow else 0.8,
    }
    return {"linestyle": "none", "marker": marker, "markersize": size, **edges}


def _best_so_far(axes: Axes, result: SweepResult, last: int) -> Sequence[Line2D]:
    """A line of steps through the trials that were better than all before them."""
    objective, best = result.objectives[0], math.nan
    steps = []
    for trial in sorted(result.ranked(), key=lambda trial: trial.number):
        best = trial.best(objective) if objective.better(trial.best(objective), best) else best
        steps.append((trial.number, best))
    if not steps:
        return []
    xs, ys = zip(*steps, (last, best))
    return axes.plot(xs, ys, drawstyle="steps-post", color=LIGHT["best"], linewidth=1.6, label="best so far")


def _name_values(axes: Axes, scale: Scale) -> None:
    """Ticks of a small chart: in lines below each other, upright where there are many categories."""
    many = scale.is_categorical and len(scale.ticks) > 5
    ticks = scale.ticks[:: math.ceil(len(scale.ticks) / 20)]
    width = max(7, 44 // len(ticks))
    labels = [_cut(text, 16) if many else _wrapped(text, width) for _, text in ticks]
    axes.set_xticks([at for at, _ in ticks], labels, fontsize=11, rotation=90 if many else 0)


def _name_best(axes: Axes, best: Trial, objective: Objective, on_left: bool) -> None:
    value, up = best.best(objective), objective.mode == "max"
    axes.annotate(
        f"{best.name}: {score_label(objective.name, value)}",
        (best.number, value),
        (8 if not on_left else -8, 9 if up else -9),
        textcoords="offset points",
        ha="right" if on_left else "left",
        va="bottom" if up else "top",
        color=LIGHT["best"],
    )


def _line(role: str) -> dict[str, Any]:
    """Of a trial's line; the mark of a failed one stands at its end."""
    looks: dict[str, dict[str, Any]] = {
        BEST: {"linewidth": 2.6, "zorder": 4},
        UNSWEPT: {"linewidth": 2.4, "linestyle": (0, (4, 1.5)), "zorder": 4},
        DONE: {"linewidth": 1.3, "alpha": 0.6},
        STOPPED: {"linewidth": 0.8, "alpha": 0.6},
        RUNNING: {"linewidth": 1, "alpha": 0.6},
        FAILED: {"linewidth": 1, "marker": "x", "markevery": [-1], "markersize": 8, "markeredgewidth": 2},
    }
    return {"color": _colour(role), **looks[role]}


def _key(role: str) -> Line2D:
    return Line2D([], [], label=MARKS[role][2], **_line(role))


def _legend(figure: Figure, roles: set[str], lines: Sequence[Line2D]) -> None:
    marks = [Line2D([], [], label=MARKS[role][2], **_mark(role)) for role in MARKS if role in roles]
    figure.legend(
        handles=[*marks, *lines],
        loc="outside upper left",
        ncols=len(marks) + len(lines),
        borderaxespad=0,
        handletextpad=0.5,
    )


def _upright(axes: Axes, place: float, name: str, ticks: Iterable[tuple[float, str]]) -> None:
    """An axis of the parallel coordinates; its labels stand to its right, above the lines."""
    axes.plot([place, place], [0, 1], color=LIGHT["point"], linewidth=1, zorder=6)
    axes.text(place, 1.05, _wrapped(name, 20), ha="left", va="bottom", fontsize=11)
    ground = {"facecolor": LIGHT["paper"], "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
    for at, text in ticks:
        axes.plot([place], [at], marker="_", markersize=7, color=LIGHT["point"], zorder=6)
        axes.text(
            place + 0.05, at, text, va="center", fontsize=10.5, zorder=7, color=LIGHT["muted"], bbox=ground
        )


@dataclass(frozen=True)
class _Ramp:
    """Heights by colour; those below `low` share the palest, so that a collapsed trial does not take all."""

    bottom: float
    low: float
    high: float

    @classmethod
    def of(cls, heights: Iterable[float]) -> _Ramp:
        ordered = sorted(heights)
        return cls(ordered[0], ordered[len(ordered) // 10], ordered[-1])

    def colour(self, height: float) -> str:
        share = (height - self.low) / ((self.high - self.low) or 1)
        return RAMP[max(0, min(len(RAMP) - 1, int(share * len(RAMP))))]

    def share(self, height: float) -> float:
        """Its place as a share of the axis."""
        return (height - self.bottom) / ((self.high - self.bottom) or 1)

    def edges(self) -> list[float]:
        """Of the colours, from the axis' bottom to its top."""
        inner = [self.low + (self.high - self.low) * i / len(RAMP) for i in range(1, len(RAMP))]
        return [self.share(height) for height in (self.bottom, *inner, self.high)]


def _objective_axis(axes: Axes, place: float, objective: Objective, ramp: _Ramp) -> None:
    """The last axis, in the colours that lines have by it; the best is at its top."""
    edges = ramp.edges()
    for colour, *ends in zip(RAMP, edges, edges[1:]):
        axes.plot([place, place], ends, color=colour, linewidth=9, solid_capstyle="butt", zorder=4)
    axes.text(place, 1.05, short_name(objective.name), ha="left", va="bottom", fontsize=11, weight="bold")
    for tick in MaxNLocator(5).tick_values(ramp.bottom, ramp.high):
        if ramp.bottom <= tick <= ramp.high:
            text = f"{tick if objective.mode == 'max' else -tick:.4g}"
            at = (place + 0.08, ramp.share(tick))
            axes.text(*at, text, va="center", fontsize=10.5, color=LIGHT["muted"])


def _wrapped(name: str, width: int) -> str:
    """In lines of about `width` characters, broken where a name or a list has a joint."""
    lines = [""]
    for part in re.findall(r"[^._ ,]+[._ ,]*|[._ ,]+", name):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(_cut(line.strip(), max(width, 12)) for line in lines[:4])


def _power(value: float) -> str:
    """A tick of a logarithmic axis: 1e-4, not 0.0001 beside 1e-05."""
    return _tidy(f"{value:.0e}" if value < 1e-3 or value >= 1e4 else f"{value:.3g}")


def _tidy(number: str) -> str:
    return re.sub(r"e([+-])0*", lambda match: f"e{match[1].strip('+')}", number)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _inline(figure: Figure) -> str:
    """The figure as an <svg> for a page: colours as variables, ids of its own, no namespaces, no metadata."""
    name, width = figure.get_gid() or "", figure.get_figwidth() * 72
    file = io.StringIO()
    FigureCanvasSVG(figure).print_svg(file)
    root = ElementTree.fromstring(_for_xml(file.getvalue()))
    for element in list(root.iter()):
        for child in list(element):
            if child.tag.endswith(("}metadata", "}style")):
                element.remove(child)
        _adapt(element, name)
    height = figure.get_figheight() * 72
    root.attrib = {
        "viewBox": f"0 0 {width:g} {height:g}",
        "role": "img",
        "aria-label": _for_xml(str(figure.get_label())),
        "style": f"max-width: {width:g}px; min-width: {width if width > 1040 else min(width, 860):g}px",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _for_xml(text: str) -> str:
    return re.sub(_NO_XML, "\N{REPLACEMENT CHARACTER}", text)


def _adapt(element: ElementTree.Element, prefix: str) -> None:
    element.tag = element.tag.rpartition("}")[2]
    element.tail = None
    if element.tag != "text":
        element.text = None
    for key, value in list(element.attrib.items()):
        del element.attrib[key]
        key = key.rpartition("}")[2]
        if key == "id" and value.startswith(_TIP):
            title = ElementTree.Element("title")
            title.text = value.removeprefix(_TIP)
            element.insert(0, title)
        elif key == "id":
            element.set(key, f"{prefix}-{value}")
        elif key == "href":
            element.set(key, f"#{prefix}-{value[1:]}")
        else:
            value = re.sub(r"url\(#", f"url(#{prefix}-", value)
            element.set(key, re.sub("#[0-9a-f]{6}", _as_variable, value))


def _as_variable(match: re.Match[str]) -> str:
    name = VARIABLES.get(match[0])
    return f"var(--{name})" if name else match[0]
