"""Which checkpoints are kept: the best by J&F and the last; and stopping early by the same J&F."""

from __future__ import annotations

from collections.abc import Sequence

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from sam2vt.config import Config
from sam2vt.core.evaluation.jf import MONITOR


class LastCheckpoint(ModelCheckpoint):
    """`last.ckpt`, written after every validation and at the end of the fit."""

    def __init__(self, folder: str) -> None:
        super().__init__(
            dirpath=folder, filename="last", save_on_train_epoch_end=False, enable_version_counter=False
        )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._should_skip_saving_checkpoint(trainer):
            self.save(trainer)

    def save(self, trainer: L.Trainer) -> str:
        """Write `last.ckpt` now; every rank must take part. Returns its path."""
        path = self.format_checkpoint_name({})
        self._save_checkpoint(trainer, path)
        self.best_model_path = path
        return path


def best_checkpoint(folder: str) -> ModelCheckpoint:
    """`best.ckpt`: the highest J&F of all validations after a step."""
    return ModelCheckpoint(
        dirpath=folder,
        filename="best",
        monitor=MONITOR,
        mode="max",
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )


def checkpoint_callbacks(config: Config) -> Sequence[ModelCheckpoint]:
    """Best before last, so that `last` holds the best's score of the same validation."""
    if not config.trainer.enable_checkpointing:
        return []
    folder = str(config.checkpoint_dir)
    return [best_checkpoint(folder), LastCheckpoint(folder)]


def early_stopping(config: Config) -> Sequence[EarlyStopping]:
    """Stop after `early_stopping_patience` validations without a higher J&F than ever before."""
    patience = config.trainer.early_stopping_patience
    if patience is None:
        return []
    return [EarlyStopping(MONITOR, mode="max", patience=patience, check_on_train_epoch_end=False)]
