"""The data module of a worker, and Lightning's counters where a step takes several batches."""

from __future__ import annotations

from typing import Any

import lightning as L

from sam2vt.config import Config
from sam2vt.core.data.opening import Records
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.training.checkpoints.store import DATA_STATE
from sam2vt.core.training.data_module import SAM2LightningDataModule
from sam2vt.distributed.stream.loader import StreamLoader
from sam2vt.distributed.stream.plan import Division
from sam2vt.errors import ConfigError

_COUNTERS = ("ready", "started", "processed", "completed")


class CountRounds(L.Callback):
    """Lets a run go on with another number of workers, whose steps take another number of rounds.

    Lightning counts batches, of which a step then has more or fewer: its counters in the checkpoint are
    brought to this group's rounds before it restores them.
    """

    def __init__(self, division: Division) -> None:
        self._rounds = division.rounds

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        was = checkpoint[DATA_STATE].get("rounds", 1)
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counters in (progress["total"], progress["current"]):
            counters.update({name: counters[name] // was * self._rounds for name in _COUNTERS})


def divided_trainer_kwargs(config: Config, division: Division) -> dict[str, Any]:
    """Arguments of Lightning's Trainer that count batches, of which a step takes several here."""
    rounds, used, trainer = division.rounds, division.plan.used_steps_per_epoch, config.trainer
    if rounds == 1:
        return {}
    if config.model.cuda_graphs:
        raise ConfigError(
            f"model.cuda_graphs: fewer workers than the run began with take {rounds} batches a step, and a "
            f"batch's gradients lie where the next one's are written; set it to false"
        )
    interval = trainer.val_check_interval
    if isinstance(interval, float) and interval < 1.0:
        interval = max(1, int(used * interval))
    return {
        "accumulate_grad_batches": trainer.accumulate_grad_batches * rounds,
        "limit_train_batches": division.batches_per_epoch,
        "val_check_interval": interval * rounds if isinstance(interval, int) else interval,
    }


class StreamDataModule(SAM2LightningDataModule):
    """The local data module with its training batches from a stream."""

    def __init__(self, config: Config, loader: StreamLoader, records: tuple[Records, Records]) -> None:
        super().__init__(config, records)
        self._loader = loader
        self.rounds = loader.division.rounds

    def train_dataloader(self) -> StreamLoader:
        return self._loader

    def use_features(self, model: SAM2Model) -> str:
        """The driver has filled the cache, and decoders read it."""
        return ""

    def _clips_per_step(self) -> int:
        return self._loader.division.plan.rows_per_step
