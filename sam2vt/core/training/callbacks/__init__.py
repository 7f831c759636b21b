"""What happens around training steps; one callback a file, named for what it does."""

from __future__ import annotations

import sys
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar

from sam2vt.config import Config
from sam2vt.core.training.callbacks.checkpoints import (
    SaveCheckpoints,
    checkpoint_callbacks,
    early_stopping,
)
from sam2vt.core.training.callbacks.final_validation import FinalValidation
from sam2vt.core.training.callbacks.first_validation import FirstValidation
from sam2vt.core.training.callbacks.log_lines import LogLines
from sam2vt.core.training.callbacks.non_finite import StopOnNonFinite
from sam2vt.core.training.callbacks.overlays import ValidationOverlays
from sam2vt.core.training.callbacks.plots import ResultsPlot
from sam2vt.core.training.callbacks.quarantine import Quarantine
from sam2vt.core.training.callbacks.results_csv import ResultsCsv
from sam2vt.core.training.callbacks.scores_csv import ScoresCsv
from sam2vt.core.training.callbacks.stopping import SaveOnSigterm
from sam2vt.core.training.callbacks.throughput import Throughput


def default_callbacks(config: Config, checkpoints: SaveCheckpoints | None = None) -> list[L.Callback]:
    """The callbacks of every run, in the order in which Lightning must call them.

    `FirstValidation` comes after those that prepare themselves when training starts, `FinalValidation`
    before those that report when it ends; a plot after the rows that it draws; checkpoints, which hold
    the others' state, last. `checkpoints` takes the place of the configured ones.
    """
    output = Path(config.output_dir)
    results = ResultsCsv(output / "results.csv")
    return [
        FinalValidation(),
        StopOnNonFinite(),
        *([Quarantine(output / "quarantine.jsonl")] if config.on_bad_sample == "quarantine" else []),
        Throughput(),
        *_progress(config),
        results,
        ResultsPlot(results.path, output / "results.png"),
        ScoresCsv(output / "val_scores.csv"),
        ValidationOverlays(output / "overlays", config.trainer.num_overlay_videos),
        *early_stopping(config),
        SaveOnSigterm(),
        FirstValidation(),
        *(checkpoint_callbacks(config) if checkpoints is None else [checkpoints]),
    ]


def _progress(config: Config) -> list[L.Callback]:
    """A bar where it can be redrawn, else lines of the log; not both."""
    if not config.trainer.enable_progress_bar:
        return [LogLines()]
    if sys.stdout.isatty():
        return [TQDMProgressBar()]
    return [LogLines(), TQDMProgressBar(refresh_rate=0)]  # a bar of ours, or Lightning adds its own
