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


class StreamDataModule(SAM2LightningDataModule):
    """The local data module, with training batches from a stream.

    Lightning stores its state under the class's name, which is the local one's: a run may resume with or
    without Ray.
    """

    def __init__(self, config: Config, loader: StreamLoader, records: tuple[Records, Records]) -> None:
        super().__init__(config, records)
        self._loader = loader
        self.rounds = loader.division.rounds

    def train_dataloader(self) -> StreamLoader:
        """Return the loader that the worker's first lines have started."""
        return self._loader

    def use_features(self, model: SAM2Model) -> str:
        """Return no reason against features: the driver has filled the cache, and decoders read it."""
        return ""

    def _clips_per_step(self) -> int:
        return self._loader.division.plan.rows_per_step


StreamDataModule.__qualname__ = DATA_STATE


class CountRounds(L.Callback):
    """Converts Lightning's counters where a run resumes with another number of workers.

    Lightning counts batches, and a step takes one per round: as many as this group of workers needs for the
    clips of a step.
    """

    def __init__(self, division: Division) -> None:
        self._rounds = division.rounds

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Change the checkpoint's counters before Lightning restores them."""
        was = checkpoint[DATA_STATE].get("rounds", 1)
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counters in (progress["total"], progress["current"]):
            counters.update({name: counters[name] // was * self._rounds for name in _COUNTERS})


def divided_trainer_kwargs(config: Config, division: Division) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer that count batches, for steps of several rounds.

    Raises ConfigError for CUDA graphs, whose gradients would be overwritten by the next round.
    """
    rounds, used, trainer = division.rounds, division.plan.used_steps_per_epoch, config.trainer
    if rounds == 1:
        return {}
    if config.model.cuda_graphs:
        raise ConfigError(
            f"model.cuda_graphs: fewer workers than the run began with take {rounds} batches a step, and a "
            f"batch's gradients lie where the next one's are written; set it to false"
        )
    # A share of an epoch is one of its steps, as on all workers; batches would round it otherwise.
    interval = trainer.val_check_interval
    if isinstance(interval, float) and interval < 1.0:
        interval = max(1, int(used * interval))
    return {
        "accumulate_grad_batches": trainer.accumulate_grad_batches * rounds,
        "limit_train_batches": division.batches_per_epoch,
        "val_check_interval": interval * rounds if isinstance(interval, int) else interval,
    }
