"""Saving the run: after validations, at intervals, at epoch ends and at the end of the fit."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from sam2vt.config import Config
from sam2vt.core.evaluation.jf import MONITOR
from sam2vt.core.model.adapter_file import write_adapter
from sam2vt.core.model.checkpoints import BASE, network_state, training_config
from sam2vt.core.storage.disk import ADAPTER, UNFINISHED
from sam2vt.core.training.checkpoints.position import (
    ends_the_epoch,
    ends_the_run,
    is_validated_next,
    makes_a_step,
)
from sam2vt.core.training.checkpoints.store import (
    DATA_STATE,
    CheckpointInfo,
    CheckpointManifest,
    CheckpointStore,
    as_json,
)
from sam2vt.errors import TrainingError

log = logging.getLogger(__name__)


class SaveCheckpoints(Checkpoint):
    """Saves after validations, every `every_n_steps` steps, at epoch ends and at the end of the fit.

    Rank 0 writes the state into the folder `staging`. One thread beside the training hashes it and puts
    it into the store; a save waits for the one before. A state that cannot be stored is a warning, the
    one at the end of the fit a TrainingError. A step whose validation is still to come is saved after it.
    """

    def __init__(self, store: CheckpointStore, every_n_steps: int | None, staging: Path) -> None:
        self.store = store
        self.every_n_steps = every_n_steps
        self.staging = staging
        # The step last handed to the store, or resumed from; the same on all ranks.
        self.last_saved_step: int | None = None
        self._score = (-1, math.nan)  # (step, val/J&F of its weights)
        self._thread: ThreadPoolExecutor | None = None
        self._pending: Future[None] | None = None
        self._stored: CheckpointManifest | None = None
        self._failure: BaseException | None = None  # why the last save was not stored

    @property
    def failure(self) -> str | None:
        """Why the last save was not stored and what is the last good one; None if it was.

        Valid on rank 0 after `wait`.
        """
        if self._failure is None:
            return None
        words = str(self._failure).strip() or type(self._failure).__name__
        if self._stored is None:
            return f"{words}. This process has stored no checkpoint in {self.store.root} yet"
        return f"{words}. The last good checkpoint is {self.store.path(self._stored)}"

    def save(self, trainer: L.Trainer, reason: str) -> None:
        """Save the state as it is now; every rank must take part."""
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        self.last_saved_step = trainer.global_step
        if not trainer.is_global_zero:
            return
        self.wait()
        info = self._info(trainer, checkpoint, reason)
        try:
            local, adapter = self._write(checkpoint, info.step)
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError where a disk is full
            self._failed(info.step, error)
            return
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._pending = self._thread.submit(self._put, local, info, adapter)

    def wait(self) -> None:
        """Return once the last save is stored or has failed; at once on ranks other than 0."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove checkpoints of steps after the one resumed from: this run will write them again."""
        if not trainer.global_step or not trainer.is_global_zero:
            return
        try:
            self.store.discard_after(trainer.global_step)
        except OSError as error:  # the next save tries again
            log.warning("%s: checkpoints after step %d stay: %s", self.store.root, trainer.global_step, error)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save at an epoch's end and every `every_n_steps` steps."""
        if not makes_a_step(trainer) or ends_the_run(trainer) or is_validated_next(trainer):
            return  # `on_train_end` and `on_validation_end` save the last two, with all that belongs to them
        if ends_the_epoch(trainer):
            self.save(trainer, "epoch")
        elif self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self.save(trainer, "interval")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save with the validation's score."""
        if trainer.sanity_checking or trainer.state.fn != "fit" or not trainer.global_step:
            return
        if MONITOR in trainer.callback_metrics:
            self._score = (trainer.global_step, float(trainer.callback_metrics[MONITOR]))
        self.save(trainer, "validation")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the last step, unless it is stored.

        Raises TrainingError where it cannot be stored.
        """
        self.wait()
        # Only rank 0 knows; the others must take part in the save, or it would wait for them.
        lost = self.last_saved_step != trainer.global_step or self._failure is not None
        if trainer.strategy.broadcast(lost):
            self.save(trainer, "end")
            self.wait()
        if self._failure is not None:
            raise TrainingError(
                f"the end of the run, step {trainer.global_step}, cannot be saved: {self.failure}. Make room "
                f"or give another place, and resume with resume=auto"
            ) from self._failure

    def on_exception(self, trainer: L.Trainer, *_: Any) -> None:
        """Let a save in progress finish."""
        self.wait()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Take the step that the run resumes from as saved."""
        self.last_saved_step = checkpoint["global_step"]

    def teardown(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """End the thread."""
        self.wait()
        if self._thread is not None:
            self._thread.shutdown()
        self._thread = None

    def _write(self, checkpoint: dict[str, Any], step: int) -> tuple[Path, Path | None]:
        """Write a checkpoint, and its adapter file if it has one."""
        path, adapter = (self.staging / f".step_{step:08d}{end}{UNFINISHED}" for end in (".ckpt", ADAPTER))
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.save(checkpoint, path)
            return path, adapter if _write_adapter(checkpoint, adapter) else None
        except BaseException:
            for each in (path, adapter):
                each.unlink(missing_ok=True)  # it may be what fills the disk
            raise

    def _put(self, local: Path, info: CheckpointInfo, adapter: Path | None) -> None:
        """Store the files, in the thread."""
        try:
            self._stored, self._failure = self.store.put(local, info, adapter), None
        except Exception as error:
            for each in filter(None, (local, adapter)):
                each.unlink(missing_ok=True)
            self._failed(info.step, error)
            return
        log.debug("saved %s (%s)", self.store.path(self._stored), info.reason)

    def _failed(self, step: int, error: BaseException) -> None:
        self._failure = error
        log.warning("step %d could not be saved: %s", step, self.failure)

    def _info(self, trainer: L.Trainer, checkpoint: dict[str, Any], reason: str) -> CheckpointInfo:
        data: Any = getattr(trainer, "datamodule", None)
        position = checkpoint.get(type(data).__qualname__, {})
        step, score = self._score
        return CheckpointInfo(
            step=trainer.global_step,
            epoch=position.get("epoch", trainer.current_epoch),
            samples_seen=position.get("samples_seen", 0),
            world_size=trainer.world_size,
            reason=reason,
            score=score if step == trainer.global_step and math.isfinite(score) else None,
            position=as_json(checkpoint.get(DATA_STATE)),
            config=as_json(checkpoint.get("hyper_parameters", {}).get("config")),
        )


def _write_adapter(checkpoint: dict[str, Any], out: Path) -> bool:
    """Write the adapter file of a checkpoint of low-rank adapters that names its base; False for others."""
    config = training_config(checkpoint)
    if BASE not in checkpoint or config is None or config["model"]["lora"]["rank"] is None:
        return False
    write_adapter(out, network_state(checkpoint, "this run"), checkpoint[BASE], config["model"])
    return True


def checkpoint_callbacks(config: Config) -> Sequence[SaveCheckpoints]:
    """Return the callback that saves into the run's folder; none where checkpoints are disabled."""
    if not config.trainer.enable_checkpointing:
        return []
    store = CheckpointStore(str(config.checkpoint_dir), keep_best=config.trainer.keep_best)
    return [SaveCheckpoints(store, config.trainer.checkpoint_every_n_steps, config.checkpoint_dir)]
