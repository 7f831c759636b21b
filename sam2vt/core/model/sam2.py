"""`SAM2Model`: SAM 2's network with prompts in and differentiable masks out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, fields
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from sam2vt.config import LoraConfig, ModelConfig
from sam2vt.configuration.names import unknown_key
from sam2vt.configuration.reading import checked
from sam2vt.core.model import adapters, batch, build, execution, kept_features, lora, trainable
from sam2vt.core.model.checkpoints import load_weights
from sam2vt.core.model.speedups.heap import keep_freed_memory
from sam2vt.core.model.tracking.clips import track_clips
from sam2vt.core.model.tracking.features import FrameFeatures, encode_images
from sam2vt.core.model.tracking.frame_call import ClickSampler, TrackingRules, TrackingRun
from sam2vt.core.model.tracking.prompt_inputs import nest_prompts, pack_objects, prompts_from_masks
from sam2vt.core.model.tracking.session import FramePrediction, TrackingSession
from sam2vt.core.types import Prompt
from sam2vt.errors import CheckpointError, ConfigError, DataError
from sam2vt.settings import default_of, types_of

log = logging.getLogger(__name__)

# SAM 2 was trained with these, for images scaled to 0..1.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


class SAM2Model(nn.Module):
    """SAM 2 for training: its weights, its trainable parts, forward over clips and over whole videos.

    Nothing is read before `load()`. The arguments are the settings of `ModelConfig`, which explains them.
    Those of the architecture, from `backbone_stride` on, keep the value of the network's YAML if they are
    None. `further` are other fields of SAM 2, such as `max_cond_frames_in_attn=4`. Raises ConfigError for a
    value that is not allowed and for an unknown name, with the nearest known one.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        checkpoint_path: str | Path | None = None,
        config_path: str | Path | None = None,
        trainable_modules: Sequence[str] | None = None,
        device: str | torch.device = "cuda",
        image_size: int = 512,
        num_maskmem: int = 7,
        *,
        num_correction_clicks: int = 0,
        correction_from_gt: float = 0.1,
        bptt_frames: int | None = None,
        presence_from_gt: bool = True,
        encoder_precision: str | None = None,
        memory_dropout: float | None = None,
        speedups: str = "auto",
        postprocessing: str = "stock",
        adapter: str = adapters.NONE,
        adapter_settings: Mapping[str, Any] | None = None,
        lora: Mapping[str, Any] | None = None,
        compile: Sequence[str] = (),
        pad_memory: bool = False,
        cuda_graphs: bool = False,
        recompute: Sequence[str] = (),
        backbone_stride: int | None = None,
        use_obj_ptrs_in_encoder: bool | None = None,
        max_obj_ptrs_in_encoder: int | None = None,
        add_tpos_enc_to_obj_ptrs: bool | None = None,
        proj_tpos_enc_in_obj_ptrs: bool | None = None,
        use_signed_tpos_enc_to_obj_ptrs: bool | None = None,
        multimask_output_in_sam: bool | None = None,
        multimask_output_for_tracking: bool | None = None,
        **further: Any,
    ) -> None:
        checkpoint_path = None if checkpoint_path is None else str(checkpoint_path)
        config_path, device = str(config_path or default_of(ModelConfig, "config_path")), str(device)
        architecture = _architecture(dict(locals()))
        super().__init__()
        self.architecture = architecture
        self.checkpoint_path = checkpoint_path
        self.config_path = config_path
        self.trainable_modules = None if trainable_modules is None else list(trainable_modules)
        self.device = device
        self.image_size = image_size
        self.num_maskmem = num_maskmem
        self.num_correction_clicks = num_correction_clicks
        self.correction_from_gt = correction_from_gt
        self.bptt_frames = bptt_frames
        self.presence_from_gt = presence_from_gt
        self.encoder_precision = encoder_precision
        self.memory_dropout = memory_dropout
        self.speedups = speedups
        self.postprocessing = postprocessing
        self.adapter = adapter
        self.adapter_settings = dict(adapter_settings or {})
        self.lora = {**asdict(LoraConfig()), **(lora or {})}
        self.compiled_parts = tuple(compile)
        self.pad_memory = pad_memory
        self.cuda_graphs = cuda_graphs
        self.recompute = tuple(recompute)
        self.click_sampler: ClickSampler = uniform_clicks
        self.loaded = False
        self._has_warned = False  # of images that look as if they were not normalised
        self._adapter_parameters: list[str] = []
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(3, 1, 1), persistent=False)

    def load(self, device: str | torch.device | None = None, *, weights: bool = True) -> SAM2Model:
        """Build the network, load its weights, adapt it and choose what trains; return self.

        Without `weights` the checkpoint is not read, for a model whose weights come from elsewhere.
        Raises ConfigError for settings that do not fit the network, CheckpointError for weights.
        """
        target = execution.resolve_device(str(device or self.device))
        if target.type == "cpu" and self.speedups == "auto":
            keep_freed_memory()
        self._build()
        if weights:
            self._load_weights()
        self._adapter_parameters = adapters.adapt(self.network, self.adapter, self.adapter_settings)
        if self.lora["rank"] is not None:
            self._adapter_parameters += lora.add_adapters(self.network, self.lora)
        if self.trainable_modules is not None:
            self.configure_for_training(self.trainable_modules)
        self.to(target)
        self.device = str(target)
        return self

    def _build(self) -> None:
        config = build.network_config(
            self.config_path, self.image_size, self.architecture, self.memory_dropout
        )
        self.network = build.build_network(config, self.speedups, "encoder_blocks" in self.recompute)
        build.check_architecture(self.network, self.config_path, self.pad_memory)
        self.loaded = True
        # A misspelt pattern fails before weights are fetched.
        if self.adapter == adapters.NONE:
            trainable.matching_parameters(self.network, self.trainable_modules or ())
        if self.lora["rank"] is not None:
            patterns = self.trainable_modules or ()
            lora.check_adapters(self.network, self.lora["targets"], patterns)

    def _load_weights(self) -> None:
        if self.checkpoint_path is None:
            log.warning("model.checkpoint_path is null: the network starts from random weights")
        else:
            load_weights(self.network, self.checkpoint_path)

    def compile_parts(self) -> None:
        """Let torch.compile compile the configured parts at their next call, for the model's device."""
        self._require_network()
        if self.compiled_parts:
            parts, device = self.compiled_parts, self.pixel_mean.device
            execution.compile_parts(self.network, parts, device, self.cuda_graphs)

    def configure_for_training(self, trainable_modules: Sequence[str]) -> None:
        """Freeze all parameters except for those that these names or glob patterns over module paths match.

        An adapter's parameters always train. Raises ConfigError for a pattern that matches nothing.
        """
        self._require_network()
        trainable.select_trainable(self.network, trainable_modules, self._adapter_parameters)
        self.trainable_modules = list(trainable_modules)
        self.train(self.training)

    def freeze_all_parameters(self) -> None:
        """Freeze all parameters, including those of an adapter."""
        self._require_network()
        self.network.requires_grad_(False)
        self.train(self.training)

    def count_trainable_parameters(self) -> int:
        """Return the number of trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def count_total_parameters(self) -> int:
        """Return the number of all parameters."""
        return sum(p.numel() for p in self.parameters())

    def train(self, mode: bool = True) -> SAM2Model:
        """Set train mode for trainable parts; frozen parts stay in eval mode (no dropout, no drop path)."""
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
                without `prompts` each object is prompted by its mask on its first frame that is visible
                and valid, and slots without one are not tracked.
            prompts: one list of dicts per clip (see `sam2vt.core.types.Prompt`); a flat list if B is 1.
                Lists and arrays are accepted too.
            batched_video_datapoint: SAM 2's `BatchedVideoDatapoint`, instead of images and masks.
            valid_masks: bool [B, T, N]; where False, the ground truth is not used for anything.
            features: the result of `keep`, instead of images: [B, T, C, h, w] per level.

        Returns a dict:
            pred_masks [B, T, N, h, w], pred_masks_high_res [B, T, N, H, W]: logits; -1024 where an
                object is scored absent, -2048 where it is not tracked, which the loss leaves out;
            iou_predictions, object_score_logits [B, T, N];
            scored bool [B, T, N]: where the model predicted the mask itself;
            steps: a `DecoderStep` for every call of the mask decoder, clicks included; ungated in
                eval mode too (with `presence_from_gt`), so that a validation's loss is training's.

        Raises CheckpointError before `load()`, DataError for inputs that do not fit.
        """
        self._require_network()
        if batched_video_datapoint is not None:
            images, masks, valid_masks = batch.from_datapoint(batched_video_datapoint)
        num_clips, num_frames = shape = self._clips_and_frames(images, features)
        batch.check_masks(masks, valid_masks, shape, self.image_size)
        if prompts is None:
            if masks is None:
                raise DataError("prompts: give prompts, or masks that become the prompts")
            prompts = prompts_from_masks(masks, valid_masks)
        objects = pack_objects(nest_prompts(prompts, num_clips), num_frames, self.image_size)
        num_slots = batch.number_of_slots(objects, masks)
        truth = None
        if self.training:
            clicks = self.num_correction_clicks > 0
            truth = batch.pack_truth(objects, masks, valid_masks, self.presence_from_gt, clicks)
        with self._running(self.training):
            seen = self._features_of_all_frames(images, features)
            outputs = track_clips(TrackingRun(self.network, num_frames, self._rules(), truth), seen, objects)
        return batch.assemble(outputs, objects, (*shape, num_slots), self.image_size, seen.levels[0].device)

    def encode(self, images: Tensor) -> FrameFeatures:
        """Return the features of images [I, 3, H, W], uint8 or already normalised."""
        pixels, one_by_one = self._normalise(images), "image_encoder" in self.recompute
        return encode_images(self.network, pixels, one_by_one, in_bf16=self.encoder_precision == "bf16")

    @torch.no_grad()
    def keep(self, images: Tensor) -> list[Tensor]:
        """Return features to read instead of images [I, 3, H, W] later: bf16 [I, C, h, w] per level."""
        self._require_network()
        with self._running(False):
            return kept_features.keep_maps(self.network, self._normalise(images))

    @property
    def kept_shapes(self) -> list[tuple[int, int, int]]:
        """(C, h, w) of each level that `keep` returns."""
        self._require_network()
        return kept_features.kept_shapes(self.network, self.image_size)

    def describe_encoder(self) -> str:
        """Return a digest of all that `keep` depends on. Raises ConfigError if some of it trains."""
        self._require_network()
        network = build.network_config(self.config_path, self.image_size, self.architecture).model
        levels = [network.get("use_high_res_features_in_sam"), network.get("num_feature_levels")]
        encoder = OmegaConf.to_container(network.image_encoder, resolve=True)
        settings = (encoder, levels, self.image_size, PIXEL_MEAN, PIXEL_STD)
        return kept_features.describe_encoder(self.network, *settings)

    @torch.no_grad()
    def propagate(
        self, frames: Iterable[Tensor], prompts: Sequence[Prompt], num_frames: int
    ) -> Iterator[FramePrediction]:
        """Track objects through a whole video, one frame in memory at a time.

        `frames` yields [3, H, W] images in order, uint8 or normalised; `prompts` carry `object_index` and
        `frame_index` in the video. Frames are seen in time order: an object is tracked from its first prompt
        on. A later prompt does not affect earlier frames, unlike in a clip of `forward`. Runs in eval mode,
        with SAM 2's object-score gate. With `postprocessing` "stock" masks and memory are made as by SAM 2's
        video predictor; with "none" as by `forward`.
        """
        self._require_network()
        was_training = self.training
        self.eval()
        try:
            shown: dict[int, dict[int, Prompt]] = {}
            for packed in pack_objects([prompts], num_frames, self.image_size):
                for frame, prompt in packed.prompts.items():
                    shown.setdefault(frame, {})[packed.slot] = prompt
            session = self.session(num_frames)
            for frame, image in enumerate(frames):
                session.look(frame, image)
                session.show(shown.get(frame, {}))
                yield session.track()
        finally:
            self.train(was_training)

    def session(
        self, num_frames: int | None = None, keeps_start: bool = False, gate_outputs: bool = True
    ) -> TrackingSession:
        """Return a session that tracks frames as they come, for a model in eval mode.

        Its prompts are those that `pack_objects` returns. Compiled parts run eagerly. Without
        `gate_outputs` the masks of absent objects are returned, too.
        """
        self._require_network()
        rules = TrackingRules(gate_outputs, as_stock=self.postprocessing == "stock")
        given = (self.network, self.encode, self._running, rules, num_frames)
        return TrackingSession(*given, keeps_start=keeps_start)

    def _clips_and_frames(self, images: Tensor | None, features: Sequence[Tensor] | None) -> tuple[int, int]:
        """Return (B, T) of the input. Raises DataError unless it is images or features of the right shape."""
        if (images is None) == (features is None):
            raise DataError("images: give images, or a batched_video_datapoint, or features: one of them")
        if features is not None:
            return batch.check_features(features, self.kept_shapes)
        assert images is not None
        return batch.check_images(images, self.image_size)

    def _features_of_all_frames(
        self, images: Tensor | None, features: Sequence[Tensor] | None
    ) -> FrameFeatures:
        if features is not None:
            return kept_features.features_of(self.network, [level.flatten(0, 1) for level in features])
        assert images is not None
        return self.encode(images.flatten(0, 1))

    def _running(self, compiled: bool) -> AbstractContextManager[Any]:
        return execution.running(compiled, self.cuda_graphs) if self.compiled_parts else nullcontext()

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
        # On another device looking at the values would wait for it.
        is_looked_at = not self._has_warned and images.device.type == "cpu" and images.numel()
        # Normalised colours are within -3 and 3, and some are negative.
        if is_looked_at and images.min() >= 0 and not 1 < (highest := images.max()) < 10:
            self._has_warned = True
            text = "images: floats from 0 to %d count as normalised; give uint8, or normalise them"
            log.warning(text, 1 if highest <= 1 else 255)
        return images.to(self.pixel_mean.dtype)

    def _require_network(self) -> None:
        if not self.loaded:
            raise CheckpointError("SAM2Model: the network is not built yet; call load() first")


def create_sam2_model(
    checkpoint_path: str | Path | None,
    config_path: str | Path | None,
    trainable_modules: Sequence[str] | None = None,
    device: str | torch.device = "cuda",
    **kwargs: Any,
) -> SAM2Model:
    """Return a loaded `SAM2Model`, with the same keywords."""
    return SAM2Model(checkpoint_path, config_path, trainable_modules, device, **kwargs).load()


def build_from_config(config: ModelConfig) -> SAM2Model:
    """Return the configured model, not loaded yet."""
    # max_objects is the data's: the model tracks as many as it is given. An average is the training's.
    own = [f.name for f in fields(config) if f.name not in ("max_objects", "ema", "lora")]
    return SAM2Model(**{name: getattr(config, name) for name in own}, lora=asdict(config.lora))


def uniform_clicks(masks: Tensor, predictions: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return one click per object, uniform over the errors of the prediction, or over the mask without one.

    `masks` and `predictions` are bool [K, 1, H, W]; coordinates are [K, 1, 2], labels int32 [K, 1].
    """
    from sam2.modeling.sam2_utils import get_next_point

    return get_next_point(masks, predictions, "uniform")


def architecture_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the architecture fields of a model configuration in plain containers."""
    fields_of_network = set(build.architecture_fields()) - {"image_size"}
    return {name: value for name, value in config.items() if name in fields_of_network}


def _architecture(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `SAM2Model`, by name, that are fields of SAM 2's network.

    Raises ConfigError for a wrong one, a field or not.
    """
    further, types = given.pop("further"), types_of(ModelConfig)
    arguments = {name: each for name, each in signature(SAM2Model).parameters.items() if name in given}
    # A default of None leaves the choice to the network's YAML; `load` looks up the adapter in its table.
    unset = {name for name, each in arguments.items() if each.default is given[name] is None} | {"adapter"}
    chosen = {name: given[name] for name in arguments if name not in unset}
    checked(ModelConfig, chosen, "model.")
    if "max_objects" in further:
        raise ConfigError("model.max_objects: leave it out; the model tracks all objects it is given")
    if further:  # only then is SAM 2 imported, which sets up Hydra
        allowed = sorted({*arguments, *build.architecture_fields()})
        for name in further:
            if name not in allowed:
                raise ConfigError(unknown_key(f"model.{name}", allowed))
    of_yaml = {
        name for name, each in arguments.items() if each.default is None and types[name] in (int, bool)
    }
    return {name: chosen[name] for name in chosen if name == "num_maskmem" or name in of_yaml} | further
