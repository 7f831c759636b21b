"""Draw marks, lines and legends of trials, each by its role."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sam2vt.core.evaluation.pages import LIGHT, TIP
from sam2vt.distributed.sweep.report.labels import score_label, short_name, value_label
from sam2vt.distributed.sweep.results import DEFAULT, DONE, FAILED, RUNNING, STOPPED, SweepResult, Trial

BEST, UNSWEPT = "best", "default"
# Role -> marker, size, name in the legend. Shapes and fillings differ, for readers who see no colours.
MARKS = {
    BEST: ("*", 16, "best"),
    UNSWEPT: ("D", 8, "default"),
    DONE: ("o", 7, "ran to its end"),
    STOPPED: ("o", 6, "stopped early"),
    RUNNING: ("^", 6, "still running"),
    FAILED: ("x", 6.5, "failed"),
}


def role_of(trial: Trial, result: SweepResult) -> str:
    """Return a key of MARKS: best or default, for other trials their status."""
    best = result.best
    if best is not None and trial.number == best.number:
        return BEST
    return UNSWEPT if trial.number == DEFAULT and trial.status != FAILED else trial.status


def tip(trial: Trial, result: SweepResult) -> str:
    """Return the text that a browser shows over the mark of the trial."""
    scores = ", ".join(
        f"{short_name(o.name)} {score_label(o.name, trial.best(o))}" for o in result.objectives
    )
    values = [f"{name}: {value_label(value)}" for name, value in result.values_of(trial).items()]
    return TIP + "; ".join([f"{trial.name}, {trial.status}: {scores}", *values])


def draw_points(
    axes: Axes, points: Iterable[tuple[Trial, float, float]], result: SweepResult, transform: Any = None
) -> set[str]:
    """Draw one mark per trial at (x, y), by its role; returns the roles."""
    roles = set()
    for trial, x, y in points:
        role = role_of(trial, result)
        roles.add(role)
        look = {**mark_style(role), "clip_on": False, "zorder": 4 + (role in (BEST, UNSWEPT))}
        axes.plot([x], [y], gid=tip(trial, result), transform=transform or axes.transData, **look)
    return roles


def mark_style(role: str) -> dict[str, Any]:
    """Return the style of a trial's mark."""
    marker, size, _ = MARKS[role]
    colour, paper, hollow = _colour(role), LIGHT["paper"], role in (STOPPED, RUNNING)
    return {
        "linestyle": "none",
        "marker": marker,
        "markersize": size,
        "markerfacecolor": paper if hollow else colour,
        "markeredgecolor": colour if hollow or role == FAILED else paper,
        "markeredgewidth": 1.6 if role == FAILED else 1.2 if hollow else 0.8,
    }


def line_style(role: str) -> dict[str, Any]:
    """Return the style of a trial's line; a failed one ends with a mark."""
    looks: dict[str, dict[str, Any]] = {
        BEST: {"linewidth": 2.6, "zorder": 4},
        UNSWEPT: {"linewidth": 2.4, "linestyle": (0, (4, 1.5)), "zorder": 4},
        DONE: {"linewidth": 1.3, "alpha": 0.6},
        STOPPED: {"linewidth": 0.8, "alpha": 0.6},
        RUNNING: {"linewidth": 1, "alpha": 0.6},
        FAILED: {"linewidth": 1, "marker": "x", "markevery": [-1], "markersize": 8, "markeredgewidth": 2},
    }
    return {"color": _colour(role), **looks[role]}


def legend_keys(roles: Collection[str], style: Callable[[str], dict[str, Any]] = mark_style) -> list[Line2D]:
    """Return the entries of a legend for these roles, drawn in the `style` of a role."""
    return [Line2D([], [], label=MARKS[role][2], **style(role)) for role in MARKS if role in roles]


def legend(figure: Figure, keys: Sequence[Line2D]) -> None:
    """Put the legend above the chart, in one row."""
    row = {"ncols": len(keys), "borderaxespad": 0, "handletextpad": 0.5}
    figure.legend(handles=keys, loc="outside upper left", **row)


def _colour(role: str) -> str:
    return LIGHT.get(role, LIGHT["point"])
