"""`results.csv`: a row a validation, the first before any step."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist

from sam2vt.core.storage.disk import write_whole
from sam2vt.core.training.checkpoints.position import batches_since_step, makes_a_step

FIRST_COLUMNS = ("step", "epoch", "seconds")
STATE = "results_csv"  # its key in a checkpoint
Row = dict[str, Any]


class ResultsCsv(L.Callback):
    """Writes step, epoch, seconds of the run, `train/*` (means since the last row; `lr` as it is), `val/*`.

    A resumed run keeps the rows up to the step it goes on from. A checkpoint holds them too, for a machine
    that has no such file, and each rank's sums since the last row: the rows of a resumed run are those of
    one that was never stopped, but for the seconds.
    A new run in the same folder puts an older file aside as `results-<n>.csv`.
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
        self.rows = []
        if trainer.is_global_zero:
            self._read_or_put_aside(trainer.global_step)
        self._started = time.monotonic() - (float(self.rows[-1]["seconds"]) if self.rows else 0.0)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for name, value in outputs["components"].items():
            name = "loss" if name == "total" else name
            self._sums[name] = self._sums[name] + value if name in self._sums else value.detach().clone()
        self._batches += 1
        self._epoch = trainer.current_epoch
        if makes_a_step(trainer):
            self._at_step = (dict(self._sums), self._batches)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        train = self._train_means(trainer)
        if not trainer.is_global_zero:
            return
        val = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val/")}
        # Validated again, as after a resume between two steps: the newer row stands.
        self.rows = [row for row in self.rows if int(row["step"]) != trainer.global_step]
        row: Row = {
            "step": trainer.global_step,
            "epoch": self._epoch,
            "seconds": round(time.monotonic() - self._started, 1),
        }
        self.rows.append({**row, **train, **dict(sorted(val.items()))})
        write_rows(self.path, self.rows)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Every rank takes part."""
        # Batches of an unfinished accumulation come again after a resume.
        waiting = batches_since_step(trainer) > 0
        sums, batches = self._at_step if waiting else (self._sums, self._batches)
        own = {"sums": {name: value.cpu() for name, value in sums.items()}, "batches": batches}
        state = {"epoch": self._epoch, "lr": self._rate, "rows": self.rows}
        checkpoint[STATE] = {**state, "ranks": _all_gather(own)}

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
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
        """Over the batches since the last row and over the ranks; every rank must take part."""
        sums, batches, self._sums, self._batches = self._sums, self._batches, {}, 0
        if not batches_since_step(trainer):
            self._at_step = ({}, 0)
        if not batches:
            return {}
        values = torch.stack([value.float() for value in sums.values()]) / batches
        values = trainer.strategy.reduce(values, reduce_op="mean")
        means = {f"train/{name}": value for name, value in zip(sums, values.tolist())}
        return means if self._rate is None else {**means, "train/lr": self._rate}

    def _read_or_put_aside(self, step: int) -> None:
        if step:
            # A file that is here may be what another group of workers left behind.
            rows = self._saved_rows or (read_rows(self.path) if self.path.exists() else [])
            self.rows = [row for row in rows if int(row["step"]) <= step]
        elif self.path.exists():
            self.path.rename(_free_name(self.path))


def read_rows(path: Path) -> list[Row]:
    """The rows of a results file; a value that is not there is absent from its row."""
    with path.open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the whole file anew and put it in place at once: nobody reads half a row."""
    names = dict.fromkeys([*FIRST_COLUMNS, *sorted({name for row in rows for name in row})])
    with write_whole(path) as written, written.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(names), restval="")
        writer.writeheader()
        writer.writerows(rows)


def _all_gather(own: dict[str, Any]) -> list[dict[str, Any]]:
    if not (dist.is_available() and dist.is_initialized()):
        return [own]
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, own)
    return parts


def _free_name(path: Path) -> Path:
    number = 1
    while (free := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
        number += 1
    return free
