"""How a chart shows a trial: a mark or a line by what became of it, and the legend of both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sam2vt.distributed.sweep.report.importance import swept_values, value_label
from sam2vt.distributed.sweep.report.labels import score_label, short_name
from sam2vt.distributed.sweep.report.svg import LIGHT, TIP
from sam2vt.distributed.sweep.trials import (
    DEFAULT,
    DONE,
    FAILED,
    RUNNING,
    STOPPED,
    SweepResult,
    Trial,
)

BEST, UNSWEPT = "best", "default"
# Role -> marker, size, name in the legend. Filled, hollow and crossed tell them apart without colour.
MARKS = {
    BEST: ("*", 16, "best"),
    UNSWEPT: ("D", 8, "default"),
    DONE: ("o", 7, "ran to its end"),
    STOPPED: ("o", 6, "stopped early"),
    RUNNING: ("^", 6, "still running"),
    FAILED: ("x", 6.5, "failed"),
}


def role_of(trial: Trial, result: SweepResult) -> str:
    best = result.best
    if best is not None and trial.number == best.number:
        return BEST
    return UNSWEPT if trial.number == DEFAULT and trial.status != FAILED else trial.status


def tip(trial: Trial, result: SweepResult) -> str:
    """What a browser shows over the trial's mark."""
    scores = ", ".join(
        f"{short_name(o.name)} {score_label(o.name, trial.best(o))}" for o in result.objectives
    )
    values = [f"{name}: {value_label(value)}" for name, value in swept_values(trial, result).items()]
    return TIP + "; ".join([f"{trial.name}, {trial.status}: {scores}", *values])


def draw_points(
    axes: Axes, points: Iterable[tuple[Trial, float, float]], result: SweepResult, transform: Any = None
) -> set[str]:
    """A mark a trial, as its role has it; returns the roles."""
    roles = set()
    for trial, x, y in points:
        role = role_of(trial, result)
        roles.add(role)
        axes.plot(
            [x],
            [y],
            gid=tip(trial, result),
            clip_on=False,
            zorder=4 + (role in (BEST, UNSWEPT)),
            transform=transform or axes.transData,
            **_mark_style(role),
        )
    return roles


def _mark_style(role: str) -> dict[str, Any]:
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


def line_style(role: str) -> dict[str, Any]:
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


def legend_key(role: str) -> Line2D:
    return Line2D([], [], label=MARKS[role][2], **line_style(role))


def legend(figure: Figure, roles: set[str], lines: Sequence[Line2D]) -> None:
    marks = [Line2D([], [], label=MARKS[role][2], **_mark_style(role)) for role in MARKS if role in roles]
    figure.legend(
        handles=[*marks, *lines],
        loc="outside upper left",
        ncols=len(marks) + len(lines),
        borderaxespad=0,
        handletextpad=0.5,
    )


def _colour(role: str) -> str:
    return LIGHT.get(role, LIGHT["point"])
