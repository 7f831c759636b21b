"""`results.png`: the curves of `results.csv` as one picture, drawn after each validation."""

from __future__ import annotations

import csv
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import lightning as L
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from sam2vt.core.evaluation.jf import METRICS, MONITOR
from sam2vt.core.evaluation.palette import COLOURS, as_hex, colour_of
from sam2vt.core.storage.disk import write_whole
from sam2vt.core.training.loss_terms.terms import TERMS
from sam2vt.errors import DataError

TRAIN, VAL = "train/", "val/"
# One colour per quantity on all panels; a term that is not listed gets one after the palette's.
_ORDER = ("bce", "iou_head", "dice", "temporal", "iou", "loss", "presence", "focal")
CURVES = {name: as_hex(colour) for name, colour in zip(_ORDER, COLOURS)}
CURVES |= {"J&F": CURVES["loss"], "J": CURVES["dice"], "F": CURVES["iou"]}
Curve = tuple[list[float], list[float]]  # steps, values


class ResultsPlot(L.Callback):
    """Draws what `ResultsCsv` has written just before."""

    def __init__(self, csv_path: Path, png_path: Path) -> None:
        self.csv_path = csv_path
        self.png_path = png_path

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw, on rank zero."""
        if trainer.is_global_zero and self.csv_path.exists() and not trainer.sanity_checking:
            plot_results(self.csv_path, self.png_path)


def plot_results(csv_path: str | Path, png_path: str | Path) -> None:
    """Draw loss, its parts, scores beside the baseline, and learning rates against the step.

    The CSV has a column `step`, columns `train/*`, `val/*` and learning rates (`lr`, or `.../lr` with any
    ending); empty cells are left out. Panels without a value are not drawn. Raises DataError where there
    is nothing to draw.
    """
    curves = read_curves(csv_path)
    drawers: list[tuple[Callable[[str], bool], Callable[[Axes, dict[str, Curve]], None]]] = [
        (lambda name: name in (f"{TRAIN}loss", f"{VAL}loss"), _draw_loss),
        (lambda name: name.startswith((TRAIN, VAL)) and _quantity(name) in TERMS, _draw_parts),
        (lambda name: name.startswith(VAL) and _quantity(name).split("_")[0] in METRICS, _draw_scores),
        (lambda name: name == "lr" or name.startswith("lr-") or "/lr" in name, _draw_rates),
    ]
    panels = [
        (draw, chosen)
        for belongs, draw in drawers
        if (chosen := {name: curve for name, curve in curves.items() if belongs(name)})
    ]
    if not panels:
        raise DataError(f"{csv_path}: no loss, score or learning rate to plot; columns: {sorted(curves)}")
    rows, columns = math.ceil(len(panels) / 2), min(len(panels), 2)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    figure = Figure(figsize=(6.2 * columns, 4.2 * rows), layout=layout)
    FigureCanvasAgg(figure)
    for place, (draw, chosen) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, place, xlabel="optimizer step")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes, chosen)
    # Replaced at once: a viewer never opens half of the picture.
    with write_whole(png_path) as written:
        figure.savefig(written, dpi=120, format="png")


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
    axes.set_title("loss")
    for name, curve in curves.items():
        _line(axes, name, curve)
    axes.legend(frameon=False)


def _draw_parts(axes: Axes, curves: dict[str, Curve]) -> None:
    axes.set_title("parts of the loss, unweighted")
    for name, curve in curves.items():
        is_only = name.startswith(TRAIN) or f"{TRAIN}{_quantity(name)}" not in curves
        _line(axes, name, curve, label=_quantity(name) if is_only else "_")
    values = [value for _, ys in curves.values() for value in ys if value > 0]
    if values and max(values) > 30 * min(values):
        axes.set_yscale("log")
    if any(name.startswith(VAL) for name in curves) and any(name.startswith(TRAIN) for name in curves):
        axes.plot([], [], color="0.3", label="train")
        axes.plot([], [], color="0.3", marker="o", markersize=4, linestyle="--", label="val")
    axes.legend(frameon=False, ncols=2, fontsize="small")


def _draw_scores(axes: Axes, curves: dict[str, Curve]) -> None:
    axes.set_title("J and F on whole validation videos")
    for name, curve in sorted(curves.items(), key=lambda item: _quantity(item[0]).split("_")):
        quantity, _, baseline = _quantity(name).partition("_")
        if not baseline:
            _line(axes, name, curve, label=quantity, linewidth=2.2 if name == MONITOR else 1.2)
    for name, (_, values) in curves.items():
        quantity, _, baseline = _quantity(name).partition("_")
        if baseline:
            label = f"{quantity} of repeating the first mask"
            axes.axhline(values[-1], color=_colour(quantity), linestyle=":", label=label)
    if (best := curves.get(MONITOR)) is not None:
        step, value = max(zip(*best), key=lambda point: point[1])
        axes.set_title(f"J and F on whole videos: best J&F {value:.3f} at step {step:.0f}")
        axes.plot(
            [step], [value], marker="o", markersize=10, fillstyle="none", color=_colour(_quantity(MONITOR))
        )
    axes.set_ylim(0, 1.05)
    axes.legend(frameon=False)


def _draw_rates(axes: Axes, curves: dict[str, Curve]) -> None:
    axes.set_title("learning rate")
    for name, (steps, values) in curves.items():
        axes.plot(steps, values, label=name, marker="o" if len(steps) == 1 else None)
    if len(curves) > 1:
        axes.legend(frameon=False)


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
