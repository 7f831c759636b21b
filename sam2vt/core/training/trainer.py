"""Give Lightning the training: the model with its loss, and its validation."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from sam2vt.config import Config
from sam2vt.configuration.loading import to_dict
from sam2vt.configuration.valdatasets import each_alone
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.evaluation.jf import MONITOR, ObjectScore
from sam2vt.core.evaluation.video import evaluate_video, hold_first_mask
from sam2vt.core.model.checkpoints import BASE, describe_base, find_base, load_weights
from sam2vt.core.model.sam2 import SAM2Model, build_from_config
from sam2vt.core.model.tracking.session import FramePrediction
from sam2vt.core.training.checkpoints.position import (
    batches_since_step,
    logs_this_step,
    makes_a_step,
    resume_within_epoch,
    rewind_loops,
)
from sam2vt.core.training.checkpoints.restoring import follow_settings
from sam2vt.core.training.data_module import SAM2LightningDataModule as SAM2LightningDataModule
from sam2vt.core.training.data_module import as_config
from sam2vt.core.training.loss import SAM2TrainingLoss, batch_loss
from sam2vt.core.training.loss_terms.entries import check_targets, count_entries
from sam2vt.core.training.optim import (
    build_optimizer,
    build_scheduler,
    clip_gradients,
    freeze_unreached_heads,
    parameters_of,
)
from sam2vt.core.training.ranks import reduced
from sam2vt.core.training.updates import UpdateMeans
from sam2vt.core.training.validation import LossRow, ValidationRows, ValidationSet, WholeVideo
from sam2vt.core.types import Batch, Prompt, VideoRecord
from sam2vt.errors import ConfigError
from sam2vt.logs import digits

log = logging.getLogger(__name__)

# Lightning's warnings that are none here: frozen parts are in eval mode on purpose, the validation's values
# are those of all ranks, few steps and loader processes were asked for, its own use of torch is outdated.
_BESIDE_THE_POINT = (
    *(r"in eval mode at the start of training", r"recommended to use `self.log\('(val/|step')"),
    *(r"does not have many workers", r"is smaller than the logging interval", r"LeafSpec\)` is deprecated"),
)

# Checkpoints leave out what did not train only if that is more than this share of the weights.
LEAST_SAVING = 0.1


class SAM2LightningModule(L.LightningModule):
    """SAM 2 with its loss, validated by J&F over whole videos.

    `config` is a `Config` or a plain dict of one. After `setup`, each step can also be called by hand,
    without a Trainer. `last_scores` are the `ObjectScore` rows of the last validation over all ranks,
    `hold_first_scores` those of the baseline that repeats each object's first mask. `val_sets` holds the same
    for each validation set, that of `valdataset` first.
    """

    def __init__(self, config: Config | Mapping[str, Any]) -> None:
        super().__init__()
        self.config = as_config(config)
        # Plain containers, so that a checkpoint loads with weights_only=True.
        self.save_hyperparameters({"config": to_dict(self.config)})
        self.model: SAM2Model = build_from_config(self.config.model)
        self.criterion = SAM2TrainingLoss(**to_dict(self.config.loss))
        self.best_val_loss = float("inf")
        self.val_sets = [ValidationSet("", self.config)]
        self.val_sets += [ValidationSet(name, only) for name, only in each_alone(self.config).items()]
        self.components: dict[str, Tensor] = {}  # of the last training step's loss
        self.gradient_norm: Tensor | None = None  # of this update; set by a callback that has computed it
        self.update_means = UpdateMeans()
        self._base: dict[str, str] | None = None  # the weights that the network started from

    def setup(self, stage: str | None = None) -> None:
        """Build the model, load its weights and choose what trains; a second call does nothing."""
        if not self.model.loaded:
            self._load_model()
        for remark in _BESIDE_THE_POINT:
            warnings.filterwarnings("ignore", message=f".*{remark}")

    def on_fit_start(self) -> None:
        """Compile the model and fill the feature cache: weights are on the device, no clip is read."""
        self.model.compile_parts()
        if self.config.dataset.feature_cache is None:
            return
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, SAM2LightningDataModule):
            raise ConfigError(
                "dataset.feature_cache: needs SAM2LightningDataModule(config) as the fit's datamodule; "
                "give it, or set dataset.feature_cache=null"
            )
        data.use_features(self.model)

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        """Return Lightning's dict: `optimizer`, and `lr_scheduler` if a schedule is enabled.

        Without a Trainer the run ends after `trainer.max_steps`. With neither this nor `scheduler.T_max`, a
        cosine has no end. Then the learning rate stays constant after the warm-up, and a warning is logged.
        """
        optimizer = build_optimizer(self.model.network, self.config.optimizer)
        settings, total_steps = self.config.scheduler, self.config.trainer.max_steps
        if self._trainer is not None:
            total_steps = int(self.trainer.estimated_stepping_batches)
        elif total_steps < 1:
            total_steps = settings.warmup_steps
            if settings.enabled and settings.type == "cosine" and settings.T_max is None:
                log.warning(
                    "scheduler.T_max is null and there is no Trainer: the learning rate stays constant"
                )
                settings = replace(settings, type="constant")
        scheduler = build_scheduler(optimizer, settings, total_steps)
        schedule = {"lr_scheduler": {"scheduler": scheduler, "interval": "step"}} if scheduler else {}
        return {"optimizer": optimizer, **schedule}

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run `SAM2Model.forward`."""
        return self.model(*args, **kwargs)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch of clips; `components` then holds its parts, detached scalars.

        With gradient accumulation, the mean of the components over the batches of an update is that of the
        update. Lightning divides the loss by the number of batches.
        """
        self._seed_step()
        loss, components, _ = batch_loss(self, self.criterion, batch)
        if not loss.requires_grad:  # nothing was predicted: only objects prompted on the last frame
            loss = loss + sum(p.flatten()[:0].sum() for p in self.parameters() if p.requires_grad)
        if "update" in batch and self._is_fitted():
            # The losses of an update's batches add up; Lightning divides each by the number of a full one.
            loss = loss * self.trainer.accumulate_grad_batches
            batches = batch["update"]["batches"]
            components = {name: value * batches for name, value in components.items()}
        self.components = components
        if self._is_fitted():
            self.update_means.add(components, completes=makes_a_step(self.trainer))
            if logs_this_step(self.trainer):
                check_targets(batch["masks"])  # this step waits for the device anyway
                self._log_components(self.update_means.values, len(batch["video_id"]))
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as Lightning does, but use the norm that a callback has computed, if any."""
        norm, self.gradient_norm = self.gradient_norm, None
        by_norm = gradient_clip_algorithm in (None, "norm")
        if norm is not None and by_norm and gradient_clip_val:
            clip_gradients(parameters_of(optimizer), float(gradient_clip_val), norm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Free the gradients after an update: Lightning would keep them through the next forward."""
        if makes_a_step(self.trainer):
            for optimizer in self.trainer.optimizers:
                optimizer.zero_grad()

    def on_validation_epoch_start(self) -> None:
        """Start a new validation's rows."""
        for each in self.val_sets:
            each.rows = ValidationRows()

    def validation_step(
        self, batch: Batch | WholeVideo | None, batch_idx: int, dataloader_idx: int = 0
    ) -> Tensor | None:
        """Return the loss of a batch of clips (loader 0), or each object's J&F in a whole video (loader 1).

        The latter is float [K], NaN for an object without a counting frame. None pads the loaders of ranks
        with fewer batches and counts nowhere. All are collected for `on_validation_epoch_end`. Each further
        set has two more loaders.
        """
        if batch is None:
            return None
        place = dataloader_idx // 2
        own = self.val_sets[place if place < len(self.val_sets) else 0]  # 0: loaders of the user's own
        if isinstance(batch, WholeVideo):
            return self._score_video(batch.record, own)
        loss, components, outputs = batch_loss(self, self.criterion, batch)
        counts = count_entries(batch["masks"], batch["valid_masks"], outputs["scored"])
        rank, world_size = self._rank_and_world_size()
        values = {name: float(value) for name, value in components.items() if name != "total"}
        own.rows.losses.append(LossRow(batch_idx * world_size + rank, counts, values))
        return loss

    def on_validation_epoch_end(self) -> None:
        """Join the rows of all ranks and log their means: `val/loss`, its parts, and `val/*` of METRICS.

        Those of a further set are `val/<name>/*`.
        """
        rows = [each.take_rows() for each in self.val_sets]
        if self._trainer is not None and self.trainer.sanity_checking:
            return
        metrics: dict[str, float] = {}
        for each, found in zip(self.val_sets, rows):
            metrics |= each.finish(found, self.criterion.weights)
        self.best_val_loss = min(self.best_val_loss, metrics.get("val/loss", float("inf")))
        if self._trainer is not None:
            for name, value in metrics.items():  # already those of all ranks
                self.log(name, value, prog_bar=name == MONITOR)
            if self.trainer.state.fn == "fit":
                self.log("step", float(self.trainer.global_step))

    def on_train_end(self) -> None:
        """Log how long it trained; the scores are in the run's summary."""
        if self._rank_and_world_size()[0] == 0:
            lowest = f", lowest validation loss {digits(self.best_val_loss)}" if self.last_scores else ""
            log.info("trained %d steps%s", self.global_step, lowest)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the trained weights and the name of the base with the rest; without a base all weights."""
        checkpoint["best_val_loss"] = self.best_val_loss
        checkpoint["world_size"] = self.trainer.world_size
        frozen = {name: p.numel() for name, p in self.named_parameters() if not p.requires_grad}
        least = LEAST_SAVING * self.model.count_total_parameters()
        if self._base is not None and sum(frozen.values()) > least:
            for name in frozen:
                del checkpoint["state_dict"][name]
            checkpoint[BASE] = self._base
        # A checkpoint holds no gradients: a resumed run repeats an unfinished accumulation from its start.
        rewind_loops(checkpoint, batches_since_step(self.trainer))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Complete the checkpoint's weights from its base, and apply this run's learning rates."""
        self.best_val_loss = float(checkpoint.get("best_val_loss", self.best_val_loss))
        if not self.model.loaded:  # from load_from_checkpoint, which fills in the weights next
            self._load_model(weights=False)
        where = find_base(checkpoint, "the checkpoint to resume from", self.config.model.checkpoint_path)
        if where is not None:
            if self._base is None:
                load_weights(self.model.network, where)
            checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}
        follow_settings(checkpoint, self.model.network, self.config.optimizer)
        if self._trainer is not None:
            resume_within_epoch(self.trainer, checkpoint)

    def _load_model(self, weights: bool = True) -> None:
        with torch.random.fork_rng(devices=[]):  # random weights follow from the seed alone
            torch.manual_seed(self.config.seed)
            self.model.load("cpu", weights=weights)
        if weights and self.model.checkpoint_path is not None:
            self._base = describe_base(self.model.checkpoint_path)
        freeze_unreached_heads(self.model, self.config.loss)

    def _log_components(self, components: dict[str, Tensor], num_clips: int) -> None:
        """Log the learning rate and the components' means over the ranks, for which each waits for all."""
        values = reduced(self.trainer, torch.stack([value.float() for value in components.values()]), "mean")
        parts = {f"train/{_logged_name(name)}": value for name, value in zip(components, values)}
        parts["train/lr"] = self.trainer.optimizers[0].param_groups[0]["lr"]
        # Loggers take it as the step of all values. Lightning's own is one behind that of results.csv.
        parts["step"] = float(self.trainer.global_step + 1)
        self.log_dict(parts, on_step=True, on_epoch=False, batch_size=num_clips)

    def _seed_step(self) -> None:
        """Make dropout and correction clicks a function of (seed, share, step), also after a resume."""
        if not self._is_fitted():  # whoever steps by hand seeds as well
            return
        rounds = getattr(self.trainer.datamodule, "rounds", 1)  # type: ignore[attr-defined]
        step, batch = divmod(self.trainer.fit_loop.total_batch_idx, rounds)
        share = batch * self.trainer.world_size + self.trainer.global_rank
        seeds = np.random.SeedSequence([self.config.seed, share, step])
        # On a CPU only its own generator: seeding all devices costs a stack trace per device not started yet.
        seed_all = torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed
        seed_all(int(seeds.generate_state(1)[0]))

    def _is_fitted(self) -> bool:
        """Return whether a Trainer fits it now; else its steps are called by hand."""
        return self._trainer is not None and self.trainer.training

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (0, 1) if self._trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _score_video(self, record: VideoRecord, of: ValidationSet) -> Tensor:
        arguments = (record, self.config.model.image_size, of.prompts, self.config.seed)
        both_ends = of.config.valdataset.score_first_and_last
        scores = evaluate_video(self, *arguments, both_ends).scores
        of.rows.scores += scores
        of.rows.num_videos += 1
        if of.hold_first is None:
            of.rows.hold_first += hold_first_mask(*arguments, both_ends).scores
        return torch.tensor([score.values["J&F"] for score in scores])

    @property
    def last_scores(self) -> list[ObjectScore]:
        """The rows of the last validation on `valdataset`, over all ranks."""
        return self.val_sets[0].scores

    @property
    def hold_first_scores(self) -> list[ObjectScore] | None:
        """The rows of the baseline on `valdataset`; None before the first validation."""
        return self.val_sets[0].hold_first

    @property
    def val_prompts(self) -> PromptGenerator:
        """Generator of prompts for whole validation videos of `valdataset`."""
        return self.val_sets[0].prompts

    def propagate(
        self, frames: Iterable[Tensor], prompts: Sequence[Prompt], num_frames: int
    ) -> Iterator[FramePrediction]:
        """Yield from `SAM2Model.propagate`.

        Raises SIGTERMException between two frames: a long video can outlast the grace period.
        """
        for prediction in self.model.propagate(frames, prompts, num_frames):
            # Several ranks stop together, between two batches: the others would wait for this one.
            if self._trainer and self.trainer.received_sigterm and self.trainer.world_size == 1:
                raise SIGTERMException
            yield prediction


def _logged_name(component: str) -> str:
    return "loss" if component == "total" else component
