"""Training as Lightning sees it: the model with its loss and validation, and the data."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from sam2vt.config import Config, LossConfig
from sam2vt.configuration.loading import to_dict
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.evaluation.jf import MeanScore, ObjectScore, mean_score
from sam2vt.core.evaluation.video import evaluate_video, hold_first_mask
from sam2vt.core.model.checkpoints import BASE, describe_base, find_base, load_weights
from sam2vt.core.model.sam2 import SAM2Model, build_from_config
from sam2vt.core.model.tracking.video import FramePrediction
from sam2vt.core.training.checkpoints.position import (
    batches_since_step,
    logs_this_step,
    makes_a_step,
    rewind_loops,
)
from sam2vt.core.training.checkpoints.restoring import follow_settings
from sam2vt.core.training.data_module import SAM2LightningDataModule as SAM2LightningDataModule
from sam2vt.core.training.data_module import as_config
from sam2vt.core.training.gradients import clip_gradients, updated_by
from sam2vt.core.training.loss import SAM2TrainingLoss
from sam2vt.core.training.loss_terms.entries import count_entries
from sam2vt.core.training.optim import build_optimizer, build_scheduler
from sam2vt.core.training.preflight import bounds, remedies
from sam2vt.core.training.validation import LossRow, ValidationRows, WholeVideo
from sam2vt.core.types import Batch, Prompt, VideoRecord
from sam2vt.errors import ConfigError, DataError

log = logging.getLogger(__name__)

# Share of the weights that checkpoints must at least save by leaving out what did not train.
LEAST_SAVING = 0.1
# Heads that a single loss term reaches, by that term's weight.
HEAD_OF_WEIGHT = {
    "presence_weight": "sam_mask_decoder.pred_obj_score_head",
    "iou_head_weight": "sam_mask_decoder.iou_prediction_head",
}


class SAM2LightningModule(L.LightningModule):
    """SAM 2 with its loss, validated by J&F over whole videos.

    `config` is a `Config` or the plain dict of one. Beside config, model, criterion and best_val_loss,
    `last_scores` holds the `ObjectScore` rows of the last validation over all ranks, and
    `hold_first_scores` those of repeating each object's first mask.
    """

    def __init__(self, config: Config | Mapping[str, Any]) -> None:
        super().__init__()
        self.config = as_config(config)
        # Plain containers, so that a checkpoint loads with weights_only=True.
        self.save_hyperparameters({"config": to_dict(self.config)})
        self.model: SAM2Model = build_from_config(self.config.model)
        self.criterion = SAM2TrainingLoss(**to_dict(self.config.loss))
        self.best_val_loss = float("inf")
        self.last_scores: list[ObjectScore] = []
        self.hold_first_scores: list[ObjectScore] | None = None
        self.gradient_norm: Tensor | None = None  # of this update, where a callback has measured it
        self._rows = ValidationRows()
        self._base: dict[str, str] | None = None  # whose weights the network started from

    def setup(self, stage: str | None = None) -> None:
        """Build the model and load its weights, and choose what trains; a second call does nothing."""
        if not self.model.loaded:
            self._load_model()
        # Frozen parts are in eval mode on purpose, and validation has joined its ranks' rows itself.
        warnings.filterwarnings("ignore", message=r".*in eval mode at the start of training")
        warnings.filterwarnings("ignore", message=r".*recommended to use `self.log\('val/")

    def on_fit_start(self) -> None:
        """The weights are loaded and on their device, and nothing is read yet."""
        self.model.compile_parts()
        if self.config.dataset.feature_cache is None:
            return
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, SAM2LightningDataModule):
            raise ConfigError(
                "dataset.feature_cache: is for a fit with SAM2LightningDataModule(config) as its datamodule; "
                "give it, or set dataset.feature_cache=null"
            )
        data.use_features(self.model)

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.model.network, self.config.optimizer)
        total_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = build_scheduler(optimizer, self.config.scheduler, total_steps)
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As `SAM2Model.forward`."""
        return self.model(*args, **kwargs)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """{"loss": total, "components": {name: detached scalar}} of one batch of clips."""
        self._seed_step()
        loss, components, _ = self._loss(batch)
        if not loss.requires_grad:  # nothing was predicted: only objects prompted on the last frame
            loss = loss + sum(p.flatten()[:0].sum() for p in self.parameters() if p.requires_grad)
        scale = batch.get("loss_scale", 1.0)
        if scale != 1.0:
            loss, components = loss * scale, {name: value * scale for name, value in components.items()}
        self._log_step(components, len(batch["video_id"]))
        return {"loss": loss, "components": components}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """As Lightning does it, but by the norm that is known already, where it is."""
        norm, self.gradient_norm = self.gradient_norm, None
        by_norm = gradient_clip_algorithm in (None, "norm")
        if norm is not None and by_norm and gradient_clip_val:
            clip_gradients(updated_by(optimizer), float(gradient_clip_val), norm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Free the gradients of an update: Lightning would keep them through the next forward."""
        if makes_a_step(self.trainer):
            for optimizer in self.trainer.optimizers:
                optimizer.zero_grad()

    def on_validation_epoch_start(self) -> None:
        self._rows = ValidationRows()

    def validation_step(
        self, batch: Batch | WholeVideo | None, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """The loss of a batch of clips (loader 0), or J and F of a whole video (loader 1).

        None, which fills up the loaders of ranks with fewer batches, counts nowhere.
        """
        if isinstance(batch, WholeVideo):
            self._score_video(batch.record)
        elif batch is not None:
            _, components, scored = self._loss(batch)
            counts = count_entries(batch["masks"], batch["valid_masks"], scored)
            number = batch_idx * self.trainer.world_size + self.trainer.global_rank
            values = {name: float(value) for name, value in components.items() if name != "total"}
            self._rows.losses.append(LossRow(number, counts, values))

    def on_validation_epoch_end(self) -> None:
        """Join the rows of all ranks and log their means: `val/loss`, its parts, `val/J`, `val/F`, ..."""
        rows, self._rows = self._rows.gathered(), ValidationRows()
        if self.trainer.sanity_checking:
            return
        self.last_scores = rows.scores
        if self.hold_first_scores is None:
            self.hold_first_scores = rows.hold_first
        losses = rows.mean_losses(self.criterion.weights)
        metrics = {f"val/{_loss_name(name)}": value for name, value in losses.items()}
        mean = self._mean_score(rows.scores)
        metrics.update({"val/J": mean.j, "val/F": mean.f, "val/J&F": mean.jf})
        metrics["val/J_hold_first"] = mean_score(self.hold_first_scores).j
        self.best_val_loss = min(self.best_val_loss, metrics.get("val/loss", float("inf")))
        for name, value in metrics.items():  # already those of all ranks
            self.log(name, value, prog_bar=name == "val/J&F")

    def on_train_end(self) -> None:
        if not self.last_scores:
            log.info("trained %d steps without validation", self.trainer.global_step)
            return
        mean, held = mean_score(self.last_scores), mean_score(self.hold_first_scores or [])
        log.info(
            "trained %d steps: J %.3f, F %.3f, J&F %.3f (J of repeating the first mask %.3f), best loss %.4f",
            *(self.trainer.global_step, mean.j, mean.f, mean.jf, held.j, self.best_val_loss),
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What trained, and the base that holds the rest; all weights where there is no base."""
        checkpoint["best_val_loss"] = self.best_val_loss
        checkpoint["world_size"] = self.trainer.world_size
        frozen = {name: p.numel() for name, p in self.named_parameters() if not p.requires_grad}
        if (
            self._base is not None
            and sum(frozen.values()) > LEAST_SAVING * self.model.count_total_parameters()
        ):
            for name in frozen:
                del checkpoint["state_dict"][name]
            checkpoint[BASE] = self._base
        # A resumed run makes an unfinished accumulation anew, from its first batch.
        rewind_loops(checkpoint, batches_since_step(self.trainer))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.best_val_loss = float(checkpoint.get("best_val_loss", self.best_val_loss))
        if not self.model.loaded:  # from load_from_checkpoint, which fills in the weights next
            self._load_model(weights=False)
        where = find_base(checkpoint, "the checkpoint to resume from", self.config.model.checkpoint_path)
        if where is not None:
            if self._base is None:
                load_weights(self.model.network, where)
            checkpoint["state_dict"] = {**self.state_dict(), **checkpoint["state_dict"]}
        follow_settings(checkpoint, self.model.network, self.config.optimizer)

    def _load_model(self, weights: bool = True) -> None:
        with torch.random.fork_rng(devices=[]):  # random weights follow from the seed alone
            torch.manual_seed(self.config.seed)
            self.model.load("cpu", weights=weights)
        if weights and self.model.checkpoint_path is not None:
            self._base = describe_base(self.model.checkpoint_path)
        freeze_unreached_heads(self.model, self.config.loss)

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Total, components, and where the model predicted something, bool [B,T,N]."""
        masks, valid = batch["masks"], batch["valid_masks"]
        given = {"valid_masks": valid, "features": batch.get("features")}
        out = self(batch.get("images"), masks, batch["prompts"], **given)
        total, components = self.criterion(
            out["pred_masks"],
            masks,
            valid,
            return_components=True,
            iou_predictions=out["iou_predictions"],
            object_score_logits=out["object_score_logits"],
            scored=out["scored"],
            steps=out["steps"],
        )
        return total, components, out["scored"]

    def _log_step(self, components: dict[str, Tensor], num_clips: int) -> None:
        """The components as the mean over the ranks, on the steps that Lightning writes down."""
        if not logs_this_step(self.trainer):
            return
        values = torch.stack([value.float() for value in components.values()])
        if self.trainer.world_size > 1:
            values = self.trainer.strategy.reduce(values, reduce_op="mean")
        parts = {f"train/{_loss_name(name)}": value for name, value in zip(components, values)}
        self.log_dict(parts, on_step=True, on_epoch=False, batch_size=num_clips)
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log("train/lr", rate, on_step=True, on_epoch=False, batch_size=num_clips)

    def _mean_score(self, scores: Sequence[ObjectScore]) -> MeanScore:
        mean = mean_score(scores)
        if not mean.num_objects:
            raise DataError(
                f"validation: none of {len(scores)} objects has a frame to be scored on. Each needs an "
                f"annotated frame after the one that it is prompted on{bounds(self.config)}: "
                f"{remedies(self.config)}"
            )
        return mean

    def _seed_step(self) -> None:
        """Dropout and correction clicks follow from (seed, share, step), also after a resume."""
        rounds = getattr(self.trainer.datamodule, "rounds", 1)  # type: ignore[attr-defined]
        step, batch = divmod(self.trainer.fit_loop.total_batch_idx, rounds)
        share = batch * self.trainer.world_size + self.trainer.global_rank
        seeds = np.random.SeedSequence([self.config.seed, share, step])
        # On a CPU without the other devices' seeds, which wait with a stack trace each for a device to start.
        seed_all = torch.default_generator.manual_seed if self.device.type == "cpu" else torch.manual_seed
        seed_all(int(seeds.generate_state(1)[0]))

    def _score_video(self, record: VideoRecord) -> None:
        arguments = (record, self.config.model.image_size, self.val_prompts, self.config.seed)
        first_and_last = self.config.valdataset.score_first_and_last
        self._rows.scores += evaluate_video(self, *arguments, first_and_last).scores
        if self.hold_first_scores is None:
            self._rows.hold_first += hold_first_mask(*arguments, first_and_last).scores

    @property
    def val_prompts(self) -> PromptGenerator:
        """How objects are prompted on whole validation videos."""
        settings = self.config.valdataset
        return PromptGenerator(
            settings.prompt_types,
            settings.num_of_pos_points,
            settings.include_center_point,
            settings.num_of_neg_points,
        )

    def propagate(
        self, frames: Iterable[Tensor], prompts: Sequence[Prompt], num_frames: int
    ) -> Iterator[FramePrediction]:
        """As `SAM2Model.propagate`; ends early on SIGTERM, since a video can outlast the grace period."""
        for prediction in self.model.propagate(frames, prompts, num_frames):
            # Several ranks stop together, between two batches.
            if self.trainer.received_sigterm and self.trainer.world_size == 1:
                raise SIGTERMException
            yield prediction


def freeze_unreached_heads(model: SAM2Model, loss: LossConfig) -> list[str]:
    """Freeze the heads that no active loss term reaches; returns the names of their parameters.

    Left trainable they would get no gradient, which hangs distributed training. Raises ConfigError
    where nothing is left to train.
    """
    frozen = []
    for weight, head in HEAD_OF_WEIGHT.items():
        if getattr(loss, weight) > 0:
            continue
        for name, parameter in model.network.named_parameters():
            if name.startswith(f"{head}.") and parameter.requires_grad:
                parameter.requires_grad_(False)
                frozen.append(name)
        log.info("loss.%s is 0: %s does not train", weight, head)
    if not model.count_trainable_parameters():
        raise ConfigError(
            f"model.trainable_modules={list(model.trainable_modules or [])} with "
            f"{', '.join(f'loss.{name}={getattr(loss, name)}' for name in HEAD_OF_WEIGHT)} leaves nothing "
            f"to train: a head trains only where its loss term has a weight; name more modules or raise one"
        )
    model.train(model.training)  # frozen parts go to eval mode
    return frozen


def _loss_name(component: str) -> str:
    return "loss" if component == "total" else component
