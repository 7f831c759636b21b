from __future__ import annotations

from PIL import Image

from sam2vt.core.training.callbacks.first_validation import FirstValidation
from sam2vt.core.training.callbacks.plots import ResultsPlot
from sam2vt.core.training.callbacks.results_csv import ResultsCsv


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
