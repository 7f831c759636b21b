"""Reporting a run to Ray Train."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning as L
import ray.train
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from sam2vt.core.evaluation.jf import MONITOR
from sam2vt.core.training.callbacks.throughput import Throughput
from sam2vt.distributed.resuming import LAST
from sam2vt.distributed.storage import RunStorage

NAMES = ("best.ckpt", LAST)


class ReportCheckpoint(Checkpoint):
    """Reports each validation to Ray Train: its metrics, the position in the data, and `last.ckpt`.

    Lightning runs checkpoint callbacks after all others and in the order given: this one comes last
    and passes on what the ones before it have written. Where the run's storage is not the folder they
    write to, `best.ckpt` and `last.ckpt` are copied to it.
    """

    def __init__(self, checkpoint_dir: Path, storage: RunStorage) -> None:
        self._folder = checkpoint_dir
        self._storage = storage
        self._uploaded: dict[str, int] = {}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        metrics = report_metrics(trainer)
        if trainer.is_global_zero:
            self.copy_to_storage()
        with _checkpoint(self._folder / LAST, trainer) as checkpoint:
            ray.train.report(metrics, checkpoint=checkpoint)  # every rank: it is a barrier

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            self.copy_to_storage()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """After a SIGTERM `last.ckpt` has just been saved."""
        if trainer.is_global_zero and isinstance(exception, SIGTERMException):
            self.copy_to_storage()

    def copy_to_storage(self) -> None:
        """Copy the checkpoints that changed since the last call."""
        if not self._storage.is_remote:
            return
        for path in (self._folder / name for name in NAMES):
            changed = path.stat().st_mtime_ns if path.exists() else 0
            if changed > self._uploaded.get(path.name, 0):
                self._storage.upload(path, "checkpoints", path.name)
                self._uploaded[path.name] = changed


def report_metrics(trainer: L.Trainer) -> dict[str, float]:
    """Numbers of this validation and where the run stands in its sequence of clips."""
    metrics = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val/")}
    metrics.setdefault(MONITOR, 0.0)  # Ray Train ranks checkpoints by it
    metrics["step"] = trainer.global_step
    metrics["clips_per_second"] = clips_per_second(trainer)
    position = trainer.datamodule.state_dict()  # type: ignore[attr-defined]
    metrics.update({name: position[name] for name in ("epoch", "clips", "samples_seen")})
    return metrics


def clips_per_second(trainer: L.Trainer) -> float:
    """Over the training so far, all ranks together; 0 before its first step."""
    meters = [callback.total for callback in trainer.callbacks if isinstance(callback, Throughput)]  # type: ignore[attr-defined]
    return meters[0].clips_per_second if meters else 0.0


@contextmanager
def _checkpoint(path: Path, trainer: L.Trainer) -> Iterator[ray.train.Checkpoint | None]:
    """`path` as a Ray Train checkpoint of rank 0; None on other ranks and before the first step."""
    if not (trainer.is_global_zero and trainer.global_step and path.exists()):
        yield None
        return
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".report-") as folder:
        _link_or_copy(path, Path(folder) / LAST)
        yield ray.train.Checkpoint.from_directory(folder)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a filesystem without links
        shutil.copyfile(source, target)
