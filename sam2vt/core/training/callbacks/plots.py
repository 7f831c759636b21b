"""`results.png`: the curves of `results.csv`, drawn anew after each validation."""

from __future__ import annotations

from pathlib import Path

import lightning as L

from sam2vt.core.evaluation.plots import plot_results


class ResultsPlot(L.Callback):
    """Draws what `ResultsCsv` has written just before."""

    def __init__(self, csv_path: Path, png_path: Path) -> None:
        self.csv_path = csv_path
        self.png_path = png_path

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and self.csv_path.exists() and not trainer.sanity_checking:
            plot_results(self.csv_path, self.png_path)
