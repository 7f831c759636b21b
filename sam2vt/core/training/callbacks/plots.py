"""`results.png` and `results.svg`: the curves of `results.csv` as one picture."""

from __future__ import annotations

import csv
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from sam2vt.core.evaluation.identity import SWAP_RATE
from sam2vt.core.evaluation.jf import METRICS, MONITOR
from sam2vt.core.evaluation.palette import COLOURS, LOOKS, as_hex, chart_style, colour_of
from sam2vt.core.evaluation.tables import HELD
from sam2vt.core.storage.disk import write_whole
from sam2vt.core.training.checkpoints.position import logs_this_step
from sam2vt.core.training.loss_terms.terms import TERMS
from sam2vt.errors import DataError

TRAIN, VAL = "train/", "val/"
# One colour per quantity on all panels; a term that is not listed gets one after the palette's.
_TERMS = ("bce", "iou_head", "dice", "temporal", "iou", "loss", "presence", "focal")
_SCORES = ("", "", "J", "", "F", "J&F")
CURVES = {name: as_hex(colour) for names in (_TERMS, _SCORES) for name, colour in zip(names, COLOURS) if name}
Curve = tuple[list[float], list[float]]  # steps, values


class ResultsPlot(L.Callback):
    """Draws what `ResultsCsv` has written just before; at the end of the fit also as SVG, for print.

    The rows have the learning rate of validations alone. This notes it at every step that is logged.
    """

    def __init__(self, csv_path: Path, png_path: Path, title: str = "", style: str = "paper") -> None:
        self.csv_path = csv_path
        self.png_path = png_path
        self.title = title
        self.style = style
        self.rates: Curve = ([], [])

    def state_dict(self) -> dict[str, Any]:
        """Return the steps and learning rates so far."""
        return {"rates": list(self.rates)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them, so that a resumed run draws the whole curve."""
        steps, values = state_dict["rates"]
        self.rates = (list(steps), list(values))

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Note the learning rate of a step that is logged, on rank zero."""
        if trainer.is_global_zero and logs_this_step(trainer):
            self.rates[0].append(trainer.global_step + 1)
            self.rates[1].append(float(trainer.optimizers[0].param_groups[0]["lr"]))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw, on rank zero."""
        if not trainer.sanity_checking:
            self._draw(trainer, self.png_path)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw for print, on rank zero."""
        self._draw(trainer, self.png_path.with_suffix(".svg"))

    def _draw(self, trainer: L.Trainer, path: Path) -> None:
        if trainer.is_global_zero and self.csv_path.exists():
            plot_results(self.csv_path, path, self.title, self.style, self.rates)


def plot_results(
    csv_path: str | Path,
    path: str | Path,
    title: str = "",
    style: str = "paper",
    rates: Curve = ([], []),
) -> None:
    """Draw loss, its parts, scores beside their baselines, further sets, learning rates against the step.

    `path` ends in .png or .svg. The CSV has a column `step`, columns `train/*`, `val/*` and learning rates
    (`lr`, or `.../lr` with any ending); empty cells are left out. `rates` takes the place of `train/lr`
    where it has any. Panels without a value are not drawn. Raises DataError where there is nothing to draw.
    """
    curves = read_curves(csv_path) | ({f"{TRAIN}lr": rates} if rates[0] else {})
    panels = [
        (draw, chosen)
        for belongs, draw in _PANELS
        if (chosen := {name: curve for name, curve in curves.items() if belongs(name)})
    ]
    if not panels:
        raise DataError(f"{csv_path}: no loss, score or learning rate to plot; columns: {sorted(curves)}")
    rows, columns = math.ceil(len(panels) / 2), min(len(panels), 2)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user has set
        matplotlib.rcParams.update(chart_style(LOOKS[style]))
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
        figure = Figure(figsize=(6.2 * columns, 4.2 * rows + 0.3 * bool(title)), layout=layout)
        FigureCanvasAgg(figure)
        if title:
            figure.suptitle(title, x=0.01, ha="left", fontsize=13)
        for place, (draw, chosen) in enumerate(panels, start=1):
            axes = figure.add_subplot(rows, columns, place)
            axes.set_xlabel("optimizer step")
            draw(axes, chosen)
        # Replaced at once: a viewer never opens half of the picture.
        with write_whole(path) as written:
            kind = Path(path).suffix[1:]
            figure.savefig(written, dpi=120, format=kind, metadata={"Date": None} if kind == "svg" else None)


def read_curves(csv_path: str | Path) -> dict[str, Curve]:
    """Return column -> (steps, values) of its filled cells; columns that are not numbers are left out.

    Raises DataError where there is no row or no column `step`.
    """
    with open(csv_path, newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "step" not in rows[0]:
        raise DataError(f"{csv_path}: a column 'step' and at least one row are needed to plot")
    curves: dict[str, Curve] = {}
    for name in rows[0]:
        cells = [(row["step"], row[name]) for row in rows if row[name]]
        try:
            points = [(float(step), float(value)) for step, value in cells]
        except ValueError:
            continue
        if points and name != "step":
            curves[name] = ([step for step, _ in points], [value for _, value in points])
    return curves


def _quantity(name: str) -> str:
    return name.split("/", 1)[-1]


def _draw_loss(axes: Axes, curves: dict[str, Curve]) -> None:
    axes.set(title="loss", ylabel="weighted sum of its terms")
    for name, curve in curves.items():
        _line(axes, name, curve, label="training" if name.startswith(TRAIN) else "validation")
    axes.legend()


def _draw_parts(axes: Axes, curves: dict[str, Curve]) -> None:
    axes.set(title="terms of the loss", ylabel="mean, not weighted")
    for name, curve in curves.items():
        is_only = name.startswith(TRAIN) or f"{TRAIN}{_quantity(name)}" not in curves
        _line(axes, name, curve, label=_quantity(name) if is_only else "_")
    values = [value for _, ys in curves.values() for value in ys if value > 0]
    if values and max(values) > 30 * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    if any(name.startswith(VAL) for name in curves) and any(name.startswith(TRAIN) for name in curves):
        _key(axes, "training", linestyle="-")
        _key(axes, "validation", linestyle="--", marker="o", markersize=4)
    _legend_below(axes)


def _draw_scores(axes: Axes, curves: dict[str, Curve]) -> None:
    axes.set(title="J and F on whole validation videos", ylabel="score, 0 to 1")
    scores = {name: curve for name in METRICS if (curve := curves.get(f"{VAL}{name}")) is not None}
    for name, curve in scores.items():
        _line(axes, f"{VAL}{name}", curve, label=name, linewidth=2.2 if f"{VAL}{name}" == MONITOR else 1.2)
    starts = {name: ys[0] for name, (steps, ys) in scores.items() if steps[0] == 0 and len(steps) > 1}
    held = {name: curves[f"{VAL}{name}{HELD}"][1][-1] for name in METRICS if f"{VAL}{name}{HELD}" in curves}
    for label, dashes, levels in (("before training", "-.", starts), ("first mask repeated", ":", held)):
        shown = {name: level for name, level in levels.items() if f"{VAL}{name}" != MONITOR}
        for name, level in shown.items():
            axes.axhline(level, color=_colour(name), linestyle=dashes, linewidth=1)
        if shown:
            _key(axes, label, linestyle=dashes, linewidth=1)
    if (best := curves.get(MONITOR)) is not None:
        step, value = max(zip(*best), key=lambda point: point[1])
        axes.set_title(f"J and F on whole videos: best J&F {value:.3f} at step {step:.0f}")
        ring: dict[str, Any] = {"marker": "o", "markersize": 10, "fillstyle": "none"}
        axes.plot([step], [value], color=_colour(_quantity(MONITOR)), **ring)
    axes.set_ylim(0, 1.05)
    _legend_below(axes)


def _draw_swaps(axes: Axes, curves: dict[str, Curve]) -> None:
    axes.set(title="swap rate: masks that lie on another object", ylabel="share of frames, 0 to 1")
    for name, (steps, values) in curves.items():
        _line(axes, name, (steps, values), label=_quantity(name), linewidth=1.5)
        if steps[0] == 0 and len(steps) > 1:
            axes.axhline(values[0], color=_colour(_quantity(name)), linestyle="-.", linewidth=1)
            _key(axes, "before training", linestyle="-.", linewidth=1)
    axes.set_ylim(0, 1.05)
    _legend_below(axes)


def _draw_further_sets(axes: Axes, curves: dict[str, Curve]) -> None:
    axes.set(title="J&F on further validation sets", ylabel="score, 0 to 1")
    has_start = False
    for place, (name, (steps, values)) in enumerate(curves.items()):
        colour = as_hex(colour_of(place))
        axes.plot(steps, values, color=colour, marker="o", markersize=4, label=name.split("/")[1])
        if steps[0] == 0 and len(steps) > 1:  # what is below has been forgotten
            axes.axhline(values[0], color=colour, linestyle="-.", linewidth=1)
            has_start = True
    if has_start:
        _key(axes, "before training", linestyle="-.", linewidth=1)
    axes.set_ylim(0, 1.05)
    _legend_below(axes)


def _is_of_further_set(name: str) -> bool:
    return name.startswith(VAL) and name.endswith("/J&F") and name != MONITOR


def _is_rate(name: str) -> bool:
    # A further validation set may have any name.
    return name == "lr" or name.startswith("lr-") or ("/lr" in name and not name.startswith(VAL))


def _draw_rates(axes: Axes, curves: dict[str, Curve]) -> None:
    axes.set_title("learning rate")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    for place, (name, (steps, values)) in enumerate(curves.items()):
        colour = as_hex(colour_of(place))
        axes.plot(steps, values, label=name, color=colour, marker="o" if len(steps) == 1 else None)
    if len(curves) > 1:
        axes.legend()


# Which columns each panel takes, and how it draws them.
_PANELS: tuple[tuple[Callable[[str], bool], Callable[[Axes, dict[str, Curve]], None]], ...] = (
    (lambda name: name in (f"{TRAIN}loss", f"{VAL}loss"), _draw_loss),
    (lambda name: name.startswith((TRAIN, VAL)) and _quantity(name) in TERMS, _draw_parts),
    (lambda name: name.startswith(VAL) and _quantity(name).split("_")[0] in METRICS, _draw_scores),
    (lambda name: name == f"{VAL}{SWAP_RATE}", _draw_swaps),
    (_is_of_further_set, _draw_further_sets),
    (_is_rate, _draw_rates),
)


def _key(axes: Axes, label: str, **look: Any) -> None:
    """Add an entry to the legend that stands for no curve of its own."""
    axes.plot([], [], color=axes.xaxis.label.get_color(), label=label, **look)


def _legend_below(axes: Axes) -> None:
    """Put a legend of many entries where it covers no curve."""
    narrow: dict[str, Any] = {"handlelength": 1.6, "handletextpad": 0.5, "columnspacing": 1.2, "borderpad": 0}
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncols=5, fontsize="small", **narrow)


def _line(axes: Axes, name: str, curve: Curve, label: str | None = None, linewidth: float = 1.5) -> None:
    is_val = name.startswith(VAL)
    axes.plot(
        *curve,
        color=_colour(_quantity(name)),
        linestyle="--" if is_val and _quantity(name) not in METRICS else "-",
        marker="o" if is_val or len(curve[0]) == 1 else None,
        markersize=4,
        linewidth=linewidth,
        label=name if label is None else label,
    )


def _colour(quantity: str) -> str:
    # By the name, so that a quantity has the same colour on every panel and in every run.
    return CURVES.get(quantity) or as_hex(colour_of(len(COLOURS) + zlib.crc32(quantity.encode()) % 16))
