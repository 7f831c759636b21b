"""The chart of parallel coordinates: one line per trial through all its swept values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sam2vt.distributed.sweep.report.charts import TooLittleData, judged
from sam2vt.distributed.sweep.report.labels import cut, short_name, wrapped
from sam2vt.distributed.sweep.report.marks import (
    BEST,
    UNSWEPT,
    legend,
    legend_key,
    line_style,
    role_of,
    tip,
)
from sam2vt.distributed.sweep.report.scales import Scale, scale_of
from sam2vt.distributed.sweep.report.style import LIGHT, RAMP
from sam2vt.distributed.sweep.report.svg import chart, empty_figure
from sam2vt.distributed.sweep.results import Objective, SweepResult, Trial, swept_values

_NOT_SET = -0.14  # height at which a setting is drawn that a trial does not have


@chart
def parallel(result: SweepResult) -> Figure:
    """Draw one line per trial through its swept values, coloured by the objective, the last axis."""
    objective = result.objectives[0]
    trials = [trial for trial in judged(result, 2) if swept_values(trial, result)]
    fields = [name for name in result.fields if any(name in swept_values(t, result) for t in trials)]
    if len(fields) < 2:
        raise TooLittleData("Fewer than two settings are swept: the chart above shows all there is.")
    scales = {name: scale_of(name, trials, result) for name in fields}
    ramp = _Ramp.of([_height(trial, objective) for trial in trials])
    width = max(1040, 150 * (len(fields) + 1))
    figure, axes = empty_figure("parallel", "swept values of each trial", width, 430)
    # The best is drawn last, above the others.
    for trial in sorted(trials, key=lambda trial: (_height(trial, objective), -trial.number)):
        _draw_trial(axes, trial, result, scales, ramp)
    missing = {name for name in fields for t in trials if name not in swept_values(t, result)}
    for place, name in enumerate(fields):
        _setting_axis(axes, place, name, scales[name], with_not_set=name in missing)
    _objective_axis(axes, len(fields), objective, ramp)
    axes.set_xlim(-0.12, len(fields) + 0.4)
    axes.set_ylim((_NOT_SET if missing else 0) - 0.06, 1.05)
    axes.set_axis_off()
    roles = {role_of(trial, result) for trial in trials}
    legend(figure, set(), [legend_key(role) for role in (BEST, UNSWEPT) if role in roles])
    return figure


def _draw_trial(
    axes: Axes, trial: Trial, result: SweepResult, scales: Mapping[str, Scale], ramp: _Ramp
) -> None:
    values, height = swept_values(trial, result), _height(trial, result.objectives[0])
    role = role_of(trial, result)
    ys = [scale.unit(values[name]) if name in values else _NOT_SET for name, scale in scales.items()]
    by_height: dict[str, Any] = {"color": ramp.colour(height), "linewidth": 1.5}
    look = line_style(role) if role in (BEST, UNSWEPT) else by_height
    axes.plot(range(len(scales) + 1), [*ys, ramp.share(height)], gid=tip(trial, result), **look)


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
