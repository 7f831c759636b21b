"""`SAM2Model`: SAM 2's network with prompts in and differentiable masks out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from sam2vt.config import ModelConfig
from sam2vt.core.model import build, trainable
from sam2vt.core.model.checkpoints import load_weights
from sam2vt.core.model.compiling import check_padding, compile_parts, running
from sam2vt.core.model.device import resolve_device
from sam2vt.core.model.inputs import check_features, check_images, check_masks, from_datapoint
from sam2vt.core.model.kept_features import describe_encoder, features_of, keep_maps, kept_shapes
from sam2vt.core.model.tracking import clips as tracking
from sam2vt.core.model.tracking.features import FrameFeatures, encode_images
from sam2vt.core.model.tracking.frame_call import ClickSampler, GroundTruth, TrackingRules
from sam2vt.core.model.tracking.outputs import assemble
from sam2vt.core.model.tracking.prompt_inputs import (
    PackedObject,
    nest_prompts,
    pack_objects,
    prompts_from_masks,
)
from sam2vt.core.model.tracking.video import FramePrediction, track_video
from sam2vt.core.types import Prompt
from sam2vt.errors import CheckpointError, ConfigError, DataError

log = logging.getLogger(__name__)

# What SAM 2 was trained with, for images scaled to 0..1.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)

DEFAULT_CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"


class SAM2Model(nn.Module):
    """SAM 2 around which one trains: weights, what trains, forward over clips and over whole videos.

    Nothing is read before `load()`. Further keywords are SAM 2's own architecture fields (such as
    `max_obj_ptrs_in_encoder=4`) and how training treats clicks, presence and the gradient through time:
    `num_correction_clicks`, `correction_from_gt`, `bptt_frames`, `presence_from_gt`, `memory_dropout`,
    `encoder_precision`; `recompute` names what is computed again in backward instead of kept
    (`ModelConfig.recompute`); `compile`, `pad_memory` and `cuda_graphs` are for
    `compile_parts`.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        checkpoint_path: str | None = None,
        config_path: str | None = None,
        trainable_modules: Sequence[str] | None = None,
        device: str = "cuda",
        image_size: int = 512,
        num_maskmem: int = 7,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if image_size <= 0 or image_size % 32:
            raise ConfigError(f"model.image_size: {image_size} is not a positive multiple of 32")
        self.checkpoint_path = checkpoint_path
        self.config_path = config_path or DEFAULT_CONFIG
        self.trainable_modules = None if trainable_modules is None else list(trainable_modules)
        self.device = device
        self.image_size = image_size
        self.num_maskmem = num_maskmem
        self.num_correction_clicks = int(kwargs.pop("num_correction_clicks", 0))
        self.correction_from_gt = float(kwargs.pop("correction_from_gt", 0.1))
        self.bptt_frames: int | None = kwargs.pop("bptt_frames", None)
        self.recompute: tuple[str, ...] = tuple(kwargs.pop("recompute", ()))
        self.encoder_precision: str | None = kwargs.pop("encoder_precision", None)
        self.memory_dropout: float | None = kwargs.pop("memory_dropout", None)
        self.compiled_parts: tuple[str, ...] = tuple(kwargs.pop("compile", ()))
        self.pad_memory = bool(kwargs.pop("pad_memory", False))
        self.cuda_graphs = bool(kwargs.pop("cuda_graphs", False))
        self.presence_from_gt = bool(kwargs.pop("presence_from_gt", True))
        self.architecture: dict[str, Any] = {"num_maskmem": num_maskmem, **kwargs}
        self.click_sampler: ClickSampler = uniform_clicks
        self.loaded = False
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    def load(self, device: str | torch.device | None = None, *, weights: bool = True) -> SAM2Model:
        """Build the network, load the checkpoint, choose what trains, move to `device`; returns self.

        Without `weights` the checkpoint is not read: for one whose weights come from elsewhere.
        """
        target = resolve_device(str(device or self.device))
        config = build.network_config(
            self.config_path, self.image_size, self.architecture, self.memory_dropout
        )
        self.network = build.build_network(config, recompute_blocks="encoder_blocks" in self.recompute)
        build.check_architecture(self.network, self.config_path)
        if self.pad_memory:
            check_padding(self.network)
        self.loaded = True
        if self.trainable_modules is not None:  # before weights, which may take long to fetch
            self.configure_for_training(self.trainable_modules)
        if weights and self.checkpoint_path is not None:
            load_weights(self.network, self.checkpoint_path)
        elif weights:
            log.warning("model.checkpoint_path is null: the network starts from random weights")
        self.to(target)
        self.device = str(target)
        return self

    def compile_parts(self) -> None:
        """Let the configured parts be compiled at their next call, for the device that the model is on."""
        self._require_network()
        if self.compiled_parts:
            compile_parts(self.network, self.compiled_parts, self.pixel_mean.device, self.cuda_graphs)

    def configure_for_training(self, trainable_modules: Sequence[str]) -> None:
        """Freeze everything but what these names or glob patterns over module paths match."""
        self._require_network()
        trainable.select_trainable(self.network, trainable_modules)
        self.trainable_modules = list(trainable_modules)
        self.train(self.training)

    def freeze_all_parameters(self) -> None:
        self._require_network()
        trainable.freeze_all(self.network)
        self.train(self.training)

    def count_trainable_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def count_total_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def train(self, mode: bool = True) -> SAM2Model:
        """Train mode for what trains; frozen parts stay in eval mode (no dropout, no drop path)."""
        super().train(mode)
        if mode and self.loaded:
            for module in self.network.modules():
                parameters = list(module.parameters())
                if parameters and module is not self.network and not any(p.requires_grad for p in parameters):
                    module.eval()
        return self

    def forward(
        self,
        images: Tensor | None,
        masks: Tensor | None = None,
        prompts: Any = None,
        batched_video_datapoint: Any = None,
        *,
        valid_masks: Tensor | None = None,
        features: Sequence[Tensor] | None = None,
    ) -> dict[str, Any]:
        """Track the prompted objects through the clips.

        Args:
            images: uint8 [B, T, 3, H, W], normalised here, or float, taken as already normalised.
            masks: bool [B, T, N, H, W] ground truth, for presence and correction clicks while training;
                without `prompts` also the mask prompts, from frame 0.
            prompts: a list a clip of prompt dicts (see `sam2vt.core.types.Prompt`); a flat list if B is 1.
            batched_video_datapoint: SAM 2's `BatchedVideoDatapoint`, instead of images and masks.
            valid_masks: bool [B, T, N]; where false, the ground truth is not used for anything.
            features: instead of images what `keep` made of them, [B, T, C, h, w] a level.

        Returns a dict:
            pred_masks [B, T, N, h, w], pred_masks_high_res [B, T, N, H, W]: logits;
            iou_predictions, object_score_logits [B, T, N];
            scored bool [B, T, N]: where the model predicted something of its own;
            steps: a `DecoderStep` for every call of the mask decoder, clicks included; ungated in
                eval mode too (with `presence_from_gt`), so that a validation's loss is training's.

        Raises `CheckpointError` before `load()`, `DataError` for inputs that do not fit.
        """
        self._require_network()
        if batched_video_datapoint is not None:
            images, masks, valid_masks = from_datapoint(batched_video_datapoint)
        num_clips, num_frames = shape = self._shape(images, features)
        check_masks(masks, valid_masks, shape, self.image_size)
        if prompts is None:
            if masks is None:
                raise DataError("prompts: give prompts, or masks whose first frame becomes the prompts")
            prompts = prompts_from_masks(masks, valid_masks)
        objects = pack_objects(nest_prompts(prompts, num_clips), num_frames, self.image_size)
        num_slots = self._num_slots(objects, masks)
        truth = self._ground_truth(objects, masks, valid_masks) if self.training else None
        with self._running(self.training):
            seen = self._seen(images, features)
            outputs = tracking.track_clips(self.network, seen, objects, num_frames, self._rules(), truth)
        return assemble(outputs, objects, (*shape, num_slots), self.image_size, seen.levels[0].device)

    def encode(self, images: Tensor) -> FrameFeatures:
        """Features of images [I, 3, H, W], uint8 or already normalised."""
        pixels, one_by_one = self._normalise(images), "image_encoder" in self.recompute
        return encode_images(self.network, pixels, one_by_one, in_bf16=self.encoder_precision == "bf16")

    def _seen(self, images: Tensor | None, features: Sequence[Tensor] | None) -> FrameFeatures:
        """The features of all B*T frames."""
        if features is not None:
            return features_of(self.network, [level.flatten(0, 1) for level in features])
        assert images is not None
        return self.encode(images.flatten(0, 1))

    def _shape(self, images: Tensor | None, features: Sequence[Tensor] | None) -> tuple[int, int]:
        """(B, T) of what is given."""
        if (images is None) == (features is None):
            raise DataError("images: give images, or a batched_video_datapoint, or features: one of them")
        if features is not None:
            return check_features(features, self.kept_shapes)
        assert images is not None
        return check_images(images, self.image_size)

    @torch.no_grad()
    def keep(self, images: Tensor) -> list[Tensor]:
        """What steps to come can have in place of images [I, 3, H, W]: bf16 [I, C, h, w] a level."""
        self._require_network()
        with self._running(False):
            return keep_maps(self.network, self._normalise(images))

    @property
    def kept_shapes(self) -> list[tuple[int, int, int]]:
        """(C, h, w) of each level that `keep` gives."""
        self._require_network()
        return kept_shapes(self.network, self.image_size)

    def describe_encoder(self) -> str:
        """What tells the output of `keep` from that of another model; ConfigError where it would change."""
        self._require_network()
        network = build.network_config(self.config_path, self.image_size, self.architecture).model
        levels = [network.get("use_high_res_features_in_sam"), network.get("num_feature_levels")]
        encoder = OmegaConf.to_container(network.image_encoder, resolve=True)
        return describe_encoder(self.network, encoder, levels, self.image_size, PIXEL_MEAN, PIXEL_STD)

    @torch.no_grad()
    def propagate(
        self, frames: Iterable[Tensor], prompts: Sequence[Prompt], num_frames: int
    ) -> Iterator[FramePrediction]:
        """Track objects through a whole video, one frame in memory at a time.

        `frames` yields [3, H, W] images in order, uint8 or normalised; `prompts` carry `object_index` and
        `frame_index` in the video. Frames are seen in time order, so that a later prompt of an object
        does not reach back. Runs in eval mode, with SAM 2's object-score gate.
        """
        self._require_network()
        was_training = self.training
        self.eval()
        try:
            objects = pack_objects([prompts], num_frames, self.image_size)
            # Compiled parts are left out while the model has a frame, not while the caller has it.
            yield from track_video(self.network, self.encode, frames, objects, num_frames, self._running)
        finally:
            self.train(was_training)

    def _running(self, compiled: bool) -> AbstractContextManager[Any]:
        return running(compiled, self.cuda_graphs) if self.compiled_parts else nullcontext()

    def _rules(self) -> TrackingRules:
        stock = not self.presence_from_gt
        return TrackingRules(
            gate_outputs=stock or not self.training,
            gate_steps=stock,
            num_clicks=self.num_correction_clicks if self.training else 0,
            click_from_gt=self.correction_from_gt,
            bptt_frames=self.bptt_frames if self.training else None,
            click_sampler=self.click_sampler,
            pad_memory=self.pad_memory,
            recompute=self.recompute if self.training else (),
        )

    def _normalise(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            return (images.float() / 255.0 - self.pixel_mean) / self.pixel_std
        return images

    def _ground_truth(
        self, objects: Sequence[PackedObject], masks: Tensor | None, valid_masks: Tensor | None
    ) -> GroundTruth | None:
        if masks is None or not objects:
            return None
        clips = [packed.clip for packed in objects]
        slots = [packed.slot for packed in objects]
        packed_masks = masks[clips, :, slots].transpose(0, 1).bool()
        if valid_masks is None:
            known = torch.ones(packed_masks.shape[:2], dtype=torch.bool, device=masks.device)
        else:
            known = valid_masks[clips, :, slots].transpose(0, 1).bool()
        present = packed_masks.flatten(2).any(dim=2)
        on_host = known.tolist() if self.num_correction_clicks else []
        return GroundTruth(packed_masks, known, present, on_host, self.presence_from_gt)

    def _num_slots(self, objects: Sequence[PackedObject], masks: Tensor | None) -> int:
        needed = max((packed.slot + 1 for packed in objects), default=0)
        if masks is None:
            return needed
        if needed > masks.shape[2]:
            raise DataError(
                f"prompts: object_index {needed - 1} is given, but masks hold {masks.shape[2]} object slots"
            )
        return masks.shape[2]

    def _require_network(self) -> None:
        if not self.loaded:
            raise CheckpointError("SAM2Model: the network is not built yet; call load() first")


def create_sam2_model(
    checkpoint_path: str | None,
    config_path: str | None,
    trainable_modules: Sequence[str] | None = None,
    device: str = "cuda",
    **kwargs: Any,
) -> SAM2Model:
    """A loaded `SAM2Model`; keywords as there."""
    return SAM2Model(checkpoint_path, config_path, trainable_modules, device, **kwargs).load()


# The data's, and what no module reads yet.
_NOT_THE_MODEL_S = ("max_objects", "speedups")


def build_from_config(config: ModelConfig) -> SAM2Model:
    """The configured model, not loaded yet."""
    values = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in _NOT_THE_MODEL_S}
    return SAM2Model(**values)


def uniform_clicks(masks: Tensor, predictions: Tensor | None) -> tuple[Tensor, Tensor]:
    """A click an object, uniform over where prediction and mask differ; over the mask without one."""
    from sam2.modeling.sam2_utils import get_next_point

    return get_next_point(masks, predictions, "uniform")


def architecture_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture fields of a model configuration in plain containers."""
    fields_of_network = set(build.architecture_fields()) - {"image_size"}
    return {name: value for name, value in config.items() if name in fields_of_network}
