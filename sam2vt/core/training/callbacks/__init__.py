"""Table of the callbacks around training steps; each lives in a file of its own, named for what it does.

A new callback is a file and a row of `CALLBACKS`. Lightning keys a callback's state in a checkpoint by the
name of its class: a class with state that is renamed must keep its former name as `state_key`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ProgressBar

from sam2vt.config import TRACKERS, Config
from sam2vt.core.training.callbacks.averaging import AverageWeights
from sam2vt.core.training.callbacks.best_file import LogBest
from sam2vt.core.training.callbacks.checkpoints import checkpoint_callbacks
from sam2vt.core.training.callbacks.log_lines import Bar, LogLines
from sam2vt.core.training.callbacks.non_finite import StopOnNonFinite
from sam2vt.core.training.callbacks.overlays import ValidationOverlays
from sam2vt.core.training.callbacks.plots import ResultsPlot
from sam2vt.core.training.callbacks.preview import FirstBatches
from sam2vt.core.training.callbacks.quarantine import Quarantine
from sam2vt.core.training.callbacks.results_csv import ResultsCsv, ScoresCsv
from sam2vt.core.training.callbacks.stopping import SaveOnSigterm
from sam2vt.core.training.callbacks.throughput import Throughput
from sam2vt.core.training.callbacks.validations import FinalValidation, FirstValidation, StopWithoutProgress


def _average(config: Config) -> list[L.Callback]:
    ema = config.model.ema
    return [] if ema.decay is None else [AverageWeights(ema.decay, ema.start_step)]


def _quarantine(config: Config) -> list[L.Callback]:
    wanted = config.on_bad_sample == "quarantine"
    return [Quarantine(Path(config.output_dir) / "quarantine.jsonl")] if wanted else []


def _progress(config: Config) -> list[L.Callback]:
    """A bar where it can be redrawn, else lines of the log; not both."""
    if not config.trainer.enable_progress_bar:
        return [LogLines()]
    if sys.stdout.isatty():
        return [Bar()]
    return [LogLines(), Bar(refresh_rate=0)]  # a bar of ours, or Lightning adds its own


def _results(config: Config) -> list[L.Callback]:
    folder = Path(config.output_dir)
    csv, title = folder / "results.csv", " · ".join(dict.fromkeys([config.name, folder.name]))
    return [ResultsCsv(csv), ResultsPlot(csv, csv.with_suffix(".png"), title, config.style)]


def _overlays(config: Config) -> list[L.Callback]:
    folder = Path(config.output_dir) / "overlays"
    return [ValidationOverlays(folder, config.trainer.num_overlay_videos, config.style)]


def _best_file(config: Config) -> list[L.Callback]:
    wanted = config.log_checkpoint and set(config.chosen_loggers) & set(TRACKERS)
    return [LogBest()] if wanted else []


def early_stopping(config: Config) -> list[L.Callback]:
    """Return what stops after `early_stopping_patience` validations without a higher J&F."""
    patience = config.trainer.early_stopping_patience
    if patience is None:
        return []
    return [StopWithoutProgress(patience)]


# Lightning calls each hook of the callbacks in this order, so it decides what a hook finds done.
CALLBACKS: dict[str, Callable[[Config], Sequence[L.Callback]]] = {
    # Before those that report when training ends: they report its validation.
    "final_validation": lambda config: [FinalValidation()],
    # After the last validation, and before those that use the final weights.
    "average": _average,
    # Before those that write: a bad step reaches no file.
    "non_finite": lambda config: [StopOnNonFinite()],
    "quarantine": _quarantine,
    "preview": lambda config: [FirstBatches(Path(config.output_dir) / "preview.png", style=config.style)],
    "throughput": lambda config: [Throughput()],
    "progress": _progress,
    # The plot after the rows that it draws.
    "results": _results,
    "scores": lambda config: [ScoresCsv(Path(config.output_dir) / "val_scores.csv")],
    "overlays": _overlays,
    "best_file": _best_file,
    "early_stopping": early_stopping,
    "sigterm": lambda config: [SaveOnSigterm()],
    # After those that prepare themselves when training starts: it validates at once.
    "first_validation": lambda config: [FirstValidation()],
    # Last: a checkpoint holds the state of all others.
    "checkpoints": checkpoint_callbacks,
}


def default_callbacks(config: Config, further: Sequence[L.Callback] = ()) -> list[L.Callback]:
    """Return the callbacks of every run and `further` ones, in the order in which Lightning must call them.

    A further one takes the place of the default one of its kind: Lightning allows one of each, and one bar.
    """
    kinds = {each.state_key for each in further}
    if any(isinstance(each, ProgressBar) for each in further):
        kinds.add(Bar.__qualname__)
    chosen: list[L.Callback] = []
    for name, build in CALLBACKS.items():
        # After those that guard them, before the first validation.
        chosen += further if name == "first_validation" else ()
        chosen += [each for each in build(config) if each.state_key not in kinds]
    return chosen
