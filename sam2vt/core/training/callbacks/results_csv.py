"""`results.csv`, one row per validation, the first before any step; `val_scores.csv`, one row per object."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import lightning as L
import torch

from sam2vt.core.evaluation.jf import ObjectScore
from sam2vt.core.evaluation.tables import format_scores, write_scores_csv
from sam2vt.core.storage.disk import write_whole
from sam2vt.core.training.checkpoints.position import batches_since_step, makes_a_step
from sam2vt.core.training.ranks import gather_objects
from sam2vt.core.training.validation import validation_metrics

log = logging.getLogger(__name__)

FIRST_COLUMNS = ("step", "epoch", "seconds")
STATE = "results_csv"  # its key in a checkpoint
Row = dict[str, Any]


class ResultsCsv(L.Callback):
    """Writes step, epoch, seconds of the run, `train/*` (means since the last row; `lr` as it is), `val/*`.

    A resumed run keeps the rows up to the step it resumes from. A checkpoint holds them too, for a machine
    without the file, and each rank's sums since the last row: except for the seconds, the rows of a
    resumed run are those of one that never stopped. A new run in the same folder renames an older file
    to `results-<n>.csv`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.rows: list[Row] = []
        self._saved_rows: list[Row] = []
        self._sums: dict[str, torch.Tensor] = {}
        self._batches: float = 0
        self._at_step: tuple[dict[str, torch.Tensor], float] = ({}, 0)  # the two above after the last update
        self._rate: float | None = None
        self._epoch = 0  # of the last batch
        self._started = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take over the rows of the run resumed from, or put an older run's file aside."""
        self.rows, step = [], trainer.global_step
        if trainer.is_global_zero and step:
            # The checkpoint's rows first: a file here may be another group of workers'.
            rows = self._saved_rows or (read_rows(self.path) if self.path.exists() else [])
            self.rows = [row for row in rows if int(row["step"]) <= step]
        elif trainer.is_global_zero and self.path.exists():
            numbered = (self.path.with_name(f"{self.path.stem}-{n}{self.path.suffix}") for n in count(1))
            self.path.rename(next(free for free in numbered if not free.exists()))
        self._started = time.monotonic() - (float(self.rows[-1]["seconds"]) if self.rows else 0.0)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Note the learning rate: after the batch it is the next step's."""
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        """Add the loss components to the sums, on the device."""
        for name, value in pl_module.components.items():
            name = "loss" if name == "total" else name
            self._sums[name] = self._sums[name] + value if name in self._sums else value.detach().clone()
        self._batches += 1
        self._epoch = trainer.current_epoch
        if makes_a_step(trainer):
            self._at_step = (dict(self._sums), self._batches)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add a row and write the file."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        train = self._train_means(trainer)
        if not trainer.is_global_zero:
            return
        # A step validated twice, as after a resume between two steps, keeps the newer row.
        self.rows = [row for row in self.rows if int(row["step"]) != trainer.global_step]
        seconds = round(time.monotonic() - self._started, 1)
        row: Row = {"step": trainer.global_step, "epoch": self._epoch, "seconds": seconds}
        self.rows.append({**row, **train, **dict(sorted(validation_metrics(trainer).items()))})
        write_rows(self.path, self.rows)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Store the rows and every rank's sums; every rank must take part."""
        # A resumed run repeats the batches of an unfinished accumulation.
        waiting = batches_since_step(trainer) > 0
        sums, batches = self._at_step if waiting else (self._sums, self._batches)
        own = {"sums": {name: value.cpu() for name, value in sums.items()}, "batches": batches}
        state = {"epoch": self._epoch, "lr": self._rate, "rows": self.rows}
        checkpoint[STATE] = {**state, "ranks": gather_objects(own)}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Restore the rows and this rank's sums, or a share of all where the number of ranks changed."""
        state = checkpoint.get(STATE)
        if state is None:
            return
        ranks, self._rate, self._epoch = state["ranks"], state["lr"], state["epoch"]
        self._saved_rows = state.get("rows", [])
        if len(ranks) == trainer.world_size:
            ranks = [ranks[trainer.global_rank]]
        names = dict.fromkeys(name for rank in ranks for name in rank["sums"])
        self._batches = sum(rank["batches"] for rank in ranks) / len(ranks)
        self._sums = {
            name: torch.stack([r["sums"][name] for r in ranks if name in r["sums"]]).sum(0) / len(ranks)
            for name in names
        }
        self._at_step = (dict(self._sums), self._batches)

    def _train_means(self, trainer: L.Trainer) -> dict[str, float]:
        """Means over the batches since the last row and over the ranks; every rank must take part."""
        sums, batches, self._sums, self._batches = self._sums, self._batches, {}, 0
        if not batches_since_step(trainer):
            self._at_step = ({}, 0)
        if not batches:
            return {}
        values = torch.stack([value.float() for value in sums.values()]) / batches
        values = trainer.strategy.reduce(values, reduce_op="mean")
        means = {f"train/{name}": value for name, value in zip(sums, values.tolist())}
        return means if self._rate is None else {**means, "train/lr": self._rate}


class ScoresCsv(L.Callback):
    """Writes `val_scores.csv`, the rows of the last validation; logs the table at the end of the fit.

    Those of a further validation set go to `val_scores-<name>.csv`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Write the files."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        for name, scores, held in _scores_by_set(pl_module):
            path = self.path.with_stem(f"{self.path.stem}-{name}") if name else self.path
            write_scores_csv(path, scores, held)

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Log the tables."""
        if not trainer.is_global_zero:
            return
        for name, scores, held in _scores_by_set(pl_module):
            on = f" on {name}" if name else ""
            log.info("the last validation%s:\n%s", on, format_scores(scores, held))


def _scores_by_set(module: Any) -> Iterator[tuple[str, list[ObjectScore], list[ObjectScore]]]:
    """Yield (name, scores, scores of the baseline) of each validation set that has scores."""
    for each in module.val_sets:
        if each.scores:
            yield each.name, each.scores, each.hold_first or []


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a results file; an empty cell is absent from its row."""
    with path.open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rewrite the whole file and replace it at once: nobody reads half a row."""
    names = dict.fromkeys([*FIRST_COLUMNS, *sorted({name for row in rows for name in row})])
    with write_whole(path) as written, written.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(names), restval="")
        writer.writeheader()
        writer.writerows(rows)
