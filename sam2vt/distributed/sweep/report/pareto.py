"""The chart of two objectives against each other, with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sam2vt.distributed.sweep.report.charts import TooLittleData
from sam2vt.distributed.sweep.report.labels import axis_name
from sam2vt.distributed.sweep.report.marks import draw_points, legend
from sam2vt.distributed.sweep.report.svg import LIGHT, chart, empty_figure
from sam2vt.distributed.sweep.trials import SweepResult

Front = Sequence[tuple[float, float, int]]  # x, y and number of each trial, from left to right


@chart
def pareto(result: SweepResult) -> Figure:
    """Two objectives against each other, and the trials that none beats in both."""
    upright, across = result.objectives[0], result.objectives[1]
    found = [(t, t.best(across), t.best(upright)) for t in result.ranked()]
    points = [point for point in found if math.isfinite(point[1]) and math.isfinite(point[2])]
    if len(points) < 2:
        raise TooLittleData("Fewer than two trials ran to their end with both objectives.")
    figure, axes = empty_figure("pareto", f"{upright.name} against {across.name}", 1040, 420)
    front = sorted((x, y, t.number) for t, x, y in points if t in result.pareto())
    _draw_front(axes, front, "steps-post" if across.mode == "min" else "steps-pre")
    roles = draw_points(axes, points, result)
    for x, y, number in _apart(front, [x for _, x, _ in points], [y for _, _, y in points]):
        axes.annotate(str(number), (x, y), (-7, 7), textcoords="offset points", ha="right", fontsize=11)
    axes.margins(0.08)
    axes.set(title=axis_name(upright), xlabel=axis_name(across))
    legend(figure, roles, [Line2D([], [], color=LIGHT["bar"], label="no trial is better in both")])
    return figure


def _draw_front(axes: Axes, front: Front, drawstyle: str) -> None:
    xs, ys = [x for x, _, _ in front], [y for _, y, _ in front]
    axes.plot(xs, ys, drawstyle=drawstyle, color=LIGHT["bar"], linewidth=1.6)


def _apart(front: Front, xs: Sequence[float], ys: Sequence[float]) -> Iterator[tuple[float, float, int]]:
    """Of the front's points those whose names do not run into each other; the table has the others."""
    wide, high = (0.04 * (max(all_of) - min(all_of)) for all_of in (xs, ys))
    named: list[tuple[float, float]] = []
    for x, y, number in front:
        near = (abs(x - a) < wide and abs(y - b) < 1.5 * high for a, b in named)
        if not any(near):
            named.append((x, y))
            yield x, y, number
