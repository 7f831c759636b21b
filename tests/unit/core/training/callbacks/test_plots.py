"""The curves of results.csv."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.evaluation.palette import LOOKS
from sam2vt.core.training.callbacks.plots import CURVES, ResultsPlot, plot_results, read_curves
from sam2vt.core.training.callbacks.results_csv import ResultsCsv
from sam2vt.core.training.callbacks.validations import FirstValidation
from sam2vt.errors import DataError


def write(path, rows):
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def run_rows(num_rows=4):
    first = {"step": 0, "seconds": 0.5, "val/loss": 3.0, "val/bce": 1.0, "val/J": 0.1, "val/J&F": 0.12}
    rows = [first]
    for i in range(1, num_rows):
        rows.append(
            {
                "step": 10 * i,
                "seconds": 9.0 * i,
                "train/loss": 2.0 / i,
                "train/bce": 1.0 / i,
                "train/dice": 0.01 / i,
                "val/loss": 2.5 / i,
                "val/bce": 1.1 / i,
                "val/J": 0.2 * i,
                "val/F": 0.21 * i,
                "val/J&F": 0.205 * i,
                "val/J_hold_first": 0.3,
                "train/lr": 1e-3 / i,
            }
        )
    return rows


def has_colour(png, name):
    value = CURVES[name].lstrip("#")
    colour = [int(value[i : i + 2], 16) for i in (0, 2, 4)]
    return bool((np.asarray(Image.open(png).convert("RGB")) == colour).all(-1).any())


def test_all_panels(tmp_path):
    png = tmp_path / "plots" / "results.png"
    plot_results(write(tmp_path / "results.csv", run_rows()), png)
    width, height = Image.open(png).size
    assert width > 1200
    assert height > 900
    assert all(has_colour(png, name) for name in ("loss", "bce", "dice", "J", "F"))
    assert [path.name for path in png.parent.iterdir()] == ["results.png"]


def test_panels_without_values_are_left_out(tmp_path):
    rows = [{"step": s, "val/J": 0.1 * s, "val/J&F": 0.1 * s} for s in range(3)]
    png = tmp_path / "results.png"
    plot_results(write(tmp_path / "results.csv", rows), png)
    assert has_colour(png, "J")
    assert not has_colour(png, "bce")
    assert Image.open(png).size[0] < 800


def test_swap_rates_have_a_panel_with_their_start(tmp_path):
    rows = [{**row, "val/swap_rate": 0.8 - 0.2 * i} for i, row in enumerate(run_rows())]
    plot_results(write(tmp_path / "results.csv", rows), tmp_path / "results.svg")
    drawn = texts(tmp_path / "results.svg")
    assert "swap rate: masks that lie on another object" in drawn
    plot_results(write(tmp_path / "others.csv", run_rows()), tmp_path / "others.svg")
    assert "swap rate" not in texts(tmp_path / "others.svg")


def test_first_row_alone(tmp_path):
    plot_results(write(tmp_path / "results.csv", run_rows(1)), tmp_path / "results.png")
    assert has_colour(tmp_path / "results.png", "loss")


def test_curves_skip_empty_cells_and_words(tmp_path):
    rows = [{"step": 0, "val/J": 0.5, "note": "best"}, {"step": 5, "train/loss": 1.5, "note": ""}]
    assert read_curves(write(tmp_path / "results.csv", rows)) == {
        "val/J": ([0.0], [0.5]),
        "train/loss": ([5.0], [1.5]),
    }


@pytest.mark.parametrize(
    ("rows", "words"),
    [([{"epoch": 1, "val/J": 0.5}], "column 'step'"), ([{"step": 1, "seconds": 2}], "no loss, score")],
)
def test_nothing_to_draw_is_named(tmp_path, rows, words):
    with pytest.raises(DataError, match=words):
        plot_results(write(tmp_path / "results.csv", rows), tmp_path / "results.png")
    assert not (tmp_path / "results.png").exists()


def test_no_global_pyplot_state(tmp_path):
    from matplotlib import pyplot

    own = pyplot.figure()
    plot_results(write(tmp_path / "results.csv", run_rows()), tmp_path / "results.png")
    assert pyplot.get_fignums() == [own.number]
    assert not own.axes
    pyplot.close(own)


def test_curves_are_drawn_after_each_validation(fit, one_weight, tmp_path, monkeypatch) -> None:
    csv_path, png_path = tmp_path / "results.csv", tmp_path / "results.png"
    rows = []
    plot = ResultsPlot(csv_path, png_path)
    draw = plot.on_validation_end
    monkeypatch.setattr(
        plot, "on_validation_end", lambda *a: (draw(*a), rows.append(len(csv_path.read_text().splitlines())))
    )
    fit(one_weight([0.1, 0.2, 0.3]), [ResultsCsv(csv_path), plot, FirstValidation()])
    assert rows == [2, 3, 4]  # the header, and a row a validation
    with Image.open(png_path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 300


def test_no_rows_no_picture(fit, one_weight, tmp_path) -> None:
    fit(one_weight(), [ResultsPlot(tmp_path / "results.csv", tmp_path / "results.png")], max_epochs=1)
    assert not (tmp_path / "results.png").exists()


def texts(svg: Path) -> str:
    """The words of a picture, which matplotlib writes as comments beside their outlines."""
    return "\n".join(re.findall(r"<!-- (.*?) -->", svg.read_text()))


def test_a_picture_for_print_names_the_run_the_units_and_the_baselines(tmp_path) -> None:
    first, *rows = run_rows()
    rows = [{**first, "val/F": 0.1}, *({**row, "val/F_hold_first": 0.25} for row in rows)]
    svg = tmp_path / "results.svg"
    plot_results(write(tmp_path / "results.csv", rows), svg, title="surgery · $1_first")
    words = texts(svg)
    for each in ("surgery · $1_first", "optimizer step", "score, 0 to 1", "mean, not weighted"):
        assert each in words
    for each in ("before training", "first mask repeated", "training", "validation"):
        assert each in words
    before = svg.read_bytes()
    plot_results(tmp_path / "results.csv", svg, title="surgery · $1_first")
    assert svg.read_bytes() == before


def test_a_baseline_without_values_is_not_in_the_legend(tmp_path) -> None:
    rows = [{"step": step, "val/J": 0.1 * step, "val/J&F": 0.1 * step} for step in (5, 10)]
    plot_results(write(tmp_path / "results.csv", rows), tmp_path / "results.svg")
    assert not {"before training", "first mask repeated"} & set(texts(tmp_path / "results.svg").splitlines())


def test_further_sets_have_a_panel_of_their_own(tmp_path) -> None:
    rows = [{"step": step, "val/J&F": 0.5, "val/lr/J&F": 0.9, "val/lr/bce": 0.1} for step in (0, 10)]
    svg = tmp_path / "results.svg"
    plot_results(write(tmp_path / "results.csv", rows), svg)
    words = texts(svg).splitlines()
    assert {"J&amp;F on further validation sets", "lr", "before training"} <= set(words)
    assert not {"learning rate", "terms of the loss"} & set(words)
    plot_results(write(tmp_path / "results.csv", [{"step": 5, "val/J&F": 0.5}]), svg)
    assert "further" not in texts(svg)


@pytest.mark.parametrize("style", LOOKS)
def test_the_style_is_the_ground(tmp_path, style) -> None:
    png = tmp_path / "results.png"
    plot_results(write(tmp_path / "results.csv", run_rows()), png, style=style)
    pixels = np.asarray(Image.open(png).convert("RGB"))
    ground = [int(LOOKS[style].paper[i : i + 2], 16) for i in (1, 3, 5)]
    assert (pixels == ground).all(-1).mean() > 0.8
    assert all(has_colour(png, name) for name in ("bce", "dice", "J", "F"))


def test_the_learning_rate_is_that_of_every_logged_step_also_after_a_resume(
    fit, one_weight, saver, tmp_path
) -> None:
    def run(folder, **how):
        csv_path = tmp_path / folder / "results.csv"
        plot = ResultsPlot(csv_path, csv_path.with_suffix(".png"))
        callbacks = [ResultsCsv(csv_path), plot, saver(tmp_path / "checkpoints")]
        fit(one_weight(), callbacks, [1.0] * 5, log_every_n_steps=2, **how)
        return plot

    plot = run("first", max_epochs=1)
    assert plot.rates == ([2, 4], pytest.approx([0.1, 0.1]))
    assert (tmp_path / "first" / "results.svg").exists()
    plot = run("second", max_epochs=2, ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert plot.rates[0] == [2, 4, 6, 8, 10]
