"""Train as one Ray Train worker: like the local training, with batches from Ray Data, several per step."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import ray
import ray.train
import ray.train.lightning
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.callbacks import LambdaCallback, ProgressBar
from lightning.pytorch.utilities.exceptions import SIGTERMException

from sam2vt.config import Config
from sam2vt.core.data.opening import Records, RunRecords
from sam2vt.core.model.export import export_checkpoint
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.storage.folder import Folder, download
from sam2vt.core.training.callbacks import default_callbacks
from sam2vt.core.training.callbacks.checkpoints import SaveCheckpoints
from sam2vt.core.training.callbacks.log_lines import LogLines
from sam2vt.core.training.checkpoints.restoring import resume_kwargs
from sam2vt.core.training.checkpoints.store import BEST, DATA_STATE, LAST, CheckpointStore
from sam2vt.core.training.data_module import SAM2LightningDataModule
from sam2vt.core.training.footprint.out_of_memory import explain_out_of_memory
from sam2vt.core.training.loggers.runs import IDS
from sam2vt.core.training.trainer import SAM2LightningModule
from sam2vt.distributed.board import show_logs
from sam2vt.distributed.cluster.storage import RunStorage
from sam2vt.distributed.stream.loader import StreamLoader
from sam2vt.distributed.stream.plan import Division
from sam2vt.distributed.worker.callbacks import (
    PostProgress,
    RankZero,
    ReportMetrics,
    WatchSignals,
)
from sam2vt.errors import ConfigError
from sam2vt.run_summary import RunSummary, end_of_run
from sam2vt.train import DDP_OPTIONS, build_trainer, write_config

log = logging.getLogger(__name__)

_COUNTERS = ("ready", "started", "processed", "completed")  # Lightning's, of batches


def train_loop(
    config: Config,
    loader: StreamLoader,
    resume: str | None,
    records: RunRecords,
    storage: RunStorage,
    board: Any,
) -> RunSummary | None:
    """Train as one rank, from the local checkpoint `resume` if there is one.

    Rank 0 returns the summary of a run that came to its end; None if it was stopped, and on other ranks.
    """
    # An OMP_NUM_THREADS of the node would hold instead of the worker's CPUs.
    torch.set_num_threads(config.ray.cpus_per_worker)
    if loader.rank == 0:
        show_logs(board, config.log_level)
    L.seed_everything(config.seed, workers=True, verbose=False)
    module = SAM2LightningModule(config)
    datamodule = StreamDataModule(config, loader, records)
    # Loggers continue the runs that they began before this group of workers.
    _fetch_ids(config, storage)
    resumed = replace(config, resume=resume or config.resume)
    trainer = _worker_trainer(resumed, loader.division, storage, board)
    if trainer.is_global_zero:
        write_config(config)
        # The next group may be on other machines.
        trainer.callbacks.append(LambdaCallback(on_train_start=lambda *_: _store_ids(config, storage)))  # type: ignore[attr-defined]
    try:
        with explain_out_of_memory(config):
            trainer.fit(module, datamodule=datamodule, **resume_kwargs(resume, trainer))
        if not trainer.is_global_zero:
            return None
        exported = _export(config, storage)
        return end_of_run(trainer, module, storage.root, storage.checkpoints, exported)
    except SIGTERMException:
        return None
    finally:
        if trainer.is_global_zero:
            _upload(config, storage)


def _fetch_ids(config: Config, storage: RunStorage) -> None:
    path = Path(config.output_dir) / IDS
    if storage.is_remote and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # of a new run there are none
            download(storage.join(IDS), path)


def _store_ids(config: Config, storage: RunStorage) -> None:
    path = Path(config.output_dir) / IDS
    if storage.is_remote and path.exists():
        try:
            storage.folder().upload(path, IDS)
        except OSError as error:
            log.warning("%s cannot be stored, so a resumed run begins new ones: %s", path, error)


def _upload(config: Config, storage: RunStorage) -> None:
    """Store the files that the run wrote beside its checkpoints, which are in the storage already."""
    if not storage.is_remote:
        return
    for path in sorted(Path(config.output_dir).iterdir()):
        if path == config.checkpoint_dir:
            continue
        try:
            storage.folder().upload(path, path.name)
        except OSError as error:
            log.warning("%s stays on this machine, it cannot be stored: %s", path, error)


def _worker_trainer(config: Config, division: Division, storage: RunStorage, board: Any) -> L.Trainer:
    # The board shows progress, and a remote store takes checkpoints: the local callbacks would do both twice.
    replaced_here = (ProgressBar, LogLines, SaveCheckpoints)
    callbacks = [each for each in default_callbacks(config) if not isinstance(each, replaced_here)]
    progress, saver = PostProgress(board, division.plan.total_steps), checkpoints(config, storage)
    rank_zero = RankZero(config.ray.collective_timeout_seconds)
    callbacks += [CountRounds(division), progress, ReportMetrics(rank_zero, board), saver]
    callbacks.append(WatchSignals(progress.signalled, saver, rank_zero))
    return build_trainer(
        config,
        callbacks,
        accelerator="gpu" if config.ray.use_gpu else "cpu",
        enable_progress_bar=False,
        **divided_trainer_kwargs(config, division),
        **_strategy(division.world_size),
    )


def _strategy(world_size: int) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer by which several ranks share gradients."""
    if world_size == 1:
        # Lightning would take a node of SLURM for a task of SLURM's.
        return {"strategy": "auto", "devices": 1, "plugins": [LightningEnvironment()]}
    return {
        # Which parameters a batch leaves unused depends on its prompts and on when its objects appear.
        "strategy": ray.train.lightning.RayDDPStrategy(**DDP_OPTIONS),
        "plugins": [ray.train.lightning.RayLightningEnvironment()],
        "devices": "auto",
    }


def _export(config: Config, storage: RunStorage) -> str | None:
    """Write the best checkpoint, else the last, in SAM 2's own layout; returns its path in the run folder."""
    folder = Folder(storage.checkpoints)
    found = folder.has(BEST, LAST)
    if not found:
        return None
    out = Path(config.output_dir) / "export" / "sam2.pt"
    export_checkpoint(folder.address(BEST if BEST in found else LAST), out)
    return str(out.relative_to(config.output_dir))


def checkpoints(config: Config, storage: RunStorage) -> SaveCheckpoints:
    """Return the callback of every rank that saves checkpoints into the run's storage; rank 0 writes."""
    store = CheckpointStore(storage.checkpoints, keep_best=config.trainer.keep_best)
    staging = Path(config.output_dir) / "checkpoints" if storage.is_remote else config.checkpoint_dir
    return SaveCheckpoints(store, config.trainer.checkpoint_every_n_steps, staging)


class StreamDataModule(SAM2LightningDataModule):
    """The local data module, with training batches from a stream.

    Lightning stores its state under the name of the class, which is that of the local one: a run may resume
    with or without Ray.
    """

    def __init__(
        self, config: Config, loader: StreamLoader, records: RunRecords | tuple[Records, Records]
    ) -> None:
        super().__init__(config, records)
        self._loader = loader
        self.rounds = loader.division.rounds

    def train_dataloader(self) -> StreamLoader:
        """Return the loader that the worker's first lines have started."""
        return self._loader

    def use_features(self, model: SAM2Model) -> str:
        """Return "": the driver has filled the cache, and decoders read it."""
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

    def on_load_checkpoint(self, trainer: L.Trainer, _: Any, checkpoint: dict[str, Any]) -> None:
        """Change the checkpoint's counters before Lightning restores them."""
        was = checkpoint[DATA_STATE].get("rounds", 1)
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counters in (progress["total"], progress["current"]):
            # A checkpoint between two batches has not counted its last one as completed.
            open_batches = counters["processed"] - counters["completed"]
            counters.update(dict.fromkeys(_COUNTERS, counters["processed"] // was * self._rounds))
            counters["completed"] -= open_batches


def divided_trainer_kwargs(config: Config, division: Division) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer that count batches, for steps of several rounds.

    Raises ConfigError for CUDA graphs, whose gradients would be overwritten by the next round.
    """
    rounds, used, trainer = division.rounds, division.plan.used_steps_per_epoch, config.trainer
    if rounds == 1:
        return {}
    if config.model.cuda_graphs:
        raise ConfigError(
            f"model.cuda_graphs: fewer workers than the run began with take {rounds} batches per step, and a "
            f"batch's gradients are stored where the next one's are written; set it to false"
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
