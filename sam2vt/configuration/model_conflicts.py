"""Find settings of the model and its speed that conflict with others.

They say which parts of a network may train before the network exists.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sam2vt.config import ADAPTED_PARTS, Config
from sam2vt.configuration.report import Report
from sam2vt.health.packages import missing

# Trainable parts that only work from the second frame of a clip on.
_MEMORY_PARTS = (
    "memory_attention",
    "memory_encoder",
    "maskmem_tpos_enc",
    "no_obj_embed_spatial",
    "obj_ptr_proj",
    "obj_ptr_tpos_proj",
    "no_obj_ptr",
)
_TRAINABLE, _TARGETS = "model.trainable_modules", "model.lora.targets"
# Patterns that reach into every part; they ask for no part alone.
_EVERYWHERE = {"*", "norms"}


def check_model(config: Config, report: Report) -> None:
    """Report the conflicts of the model's settings."""
    speed = (_cached_features, _compiling, _graphs)
    for check in (_architecture, _trainable, _lora, _memory, _encoder, _average, *speed):
        check(config, report)


def trains(config: Config, part: str) -> bool:
    """Return whether `part` of the network, or something in it such as an adapter, may train."""
    return _chosen_by(config, part) is not None


def _chosen_by(config: Config, part: str) -> str | None:
    """Return the setting by which `part`, or something in it, may train."""
    model = config.model
    chosen = {
        _TRAINABLE: model.trainable_modules,
        "model.adapter": _adapted(config),
        _TARGETS: _targets(config),
    }
    names = (name for name, patterns in chosen.items() if any(_may_match(each, part) for each in patterns))
    return next(names, None)


def _adapted(config: Config) -> Sequence[str]:
    return ADAPTED_PARTS.get(config.model.adapter, ())  # a name that is not allowed is a fault of its own


def _targets(config: Config) -> Sequence[str]:
    return config.model.lora.targets if (config.model.lora.rank or 0) > 0 else []


def _architecture(config: Config, report: Report) -> None:
    model = config.model
    has_code = model.use_obj_ptrs_in_encoder and model.add_tpos_enc_to_obj_ptrs
    if has_code and model.max_obj_ptrs_in_encoder == 1:
        text = "the time code is a share of the longest distance, which is 0 here; take at least 2"
        report.clash("model.max_obj_ptrs_in_encoder", "model.add_tpos_enc_to_obj_ptrs", text)
    of_past_only = not config.dataset.datasets and config.dataset.max_conditioning_frames == 1
    if has_code and of_past_only and not model.use_signed_tpos_enc_to_obj_ptrs:
        text = "all pointers are of past frames, whose code is the same; leave it true, or prompt more frames"
        report.clash("model.use_signed_tpos_enc_to_obj_ptrs", "dataset.max_conditioning_frames", text)
    if model.num_correction_clicks > 0 and set(config.dataset.prompt_types) == {"mask"}:
        text = "only objects prompted by points or boxes are corrected; add point or box"
        report.clash("model.num_correction_clicks", "dataset.prompt_types", text)


def _trainable(config: Config, report: Report) -> None:
    model = config.model
    if model.adapter == "none":
        report.unused("model.adapter", "there is no adapter", "adapter_settings")
        if not model.trainable_modules and model.lora.rank is None:
            report.fault(_TRAINABLE, "must be at least one name or pattern: nothing trains")
    if model.memory_dropout is not None and not trains(config, "memory_attention"):
        text = "a frozen memory_attention has no dropout; set it to null"
        report.clash("model.memory_dropout", _TRAINABLE, text)
    if not trains(config, "image_encoder"):
        report.unused(_TRAINABLE, "no part of image_encoder trains", "optimizer.encoder_lr")
        if "encoder_blocks" in model.recompute:
            text = "a frozen image_encoder keeps nothing for backward; leave encoder_blocks out"
            report.clash("model.recompute", _TRAINABLE, text)
    if not trains(config, "image_encoder.trunk"):
        report.unused(_TRAINABLE, "image_encoder.trunk does not train", "optimizer.layer_decay")


def _lora(config: Config, report: Report) -> None:
    model, targets = config.model, _targets(config)
    if not targets:  # no adapters, or wrong ones
        return
    if (fault := missing("peft")) is not None:
        report.fault("model.lora.rank", fault)
    if model.adapter != "none":
        report.clash("model.lora.rank", "model.adapter", "are both adapters; take one")
    # What patterns match is known once the network is built; this is certain before.
    whole = [e for e in model.trainable_modules for t in targets if _contains(e, t)]
    if whole:
        text = f"{whole[0]} would train as a whole; set {_TRAINABLE}=[] to train the adapters alone"
        report.clash(_TARGETS, _TRAINABLE, text)


def _memory(config: Config, report: Report) -> None:
    """Report clips or gradients that are too short for a memory that is to train."""
    frames, length = config.model.bptt_frames, config.dataset.video_clip_length
    patterns = [*config.model.trainable_modules, *_adapted(config), *_targets(config)]
    if patterns and length == 1 and all(map(_is_memory, patterns)):
        text = "the memory is not used on single frames, so nothing would train; use clips of at least 2"
        report.clash(_TRAINABLE, "dataset.video_clip_length", text)
    if frames is not None and frames >= length:
        report.clash("model.bptt_frames", "dataset.video_clip_length", "never cuts anything; use null")
    # "*" trains what else there is, so it is not asking for the memory encoder alone.
    elif frames == 1 and any(_may_match(each, "memory_encoder") for each in set(patterns) - _EVERYWHERE):
        text = "cutting after every frame leaves memory_encoder without gradient; use at least 2 or null"
        report.clash("model.bptt_frames", _TRAINABLE, text)


def _encoder(config: Config, report: Report) -> None:
    name = "model.encoder_precision"
    if config.model.encoder_precision is None:
        return
    if chosen_by := _chosen_by(config, "image_encoder"):
        text = "may reach into image_encoder; it is for a frozen one, see trainer.precision"
        report.clash(name, chosen_by, f"{chosen_by} {text}")
    if config.trainer.precision != "32-true":
        text = "the whole model has less than 32 bits already; set it to null"
        report.clash(name, "trainer.precision", text)
    if config.dataset.feature_cache is not None:
        text = "one would train and validate on different features; use one"
        report.clash(name, "dataset.feature_cache", text)


def _average(config: Config, report: Report) -> None:
    start, last = config.model.ema.start_step, config.trainer.max_steps
    if config.model.ema.decay is not None and 0 < last <= start:
        text = "the average would begin after the last step; begin earlier"
        report.clash("model.ema.start_step", "trainer.max_steps", text)


def _cached_features(config: Config, report: Report) -> None:
    """Steps from the cache do not run the encoder, so that nothing about it may change."""
    name = "dataset.feature_cache"
    if config.dataset.feature_cache is None:
        return
    if chosen_by := _chosen_by(config, "image_encoder"):
        text = "may reach into image_encoder, whose features then change; train other parts, such as"
        report.clash(name, chosen_by, f"{chosen_by} {text} memory_attention, or set {name}=null")
    for each in ("compile", "recompute"):
        if "image_encoder" in getattr(config.model, each):
            report.clash(f"model.{each}", name, "no step runs image_encoder; leave it out")


def _compiling(config: Config, report: Report) -> None:
    model = config.model
    if "memory_attention" not in model.compile:
        report.unused("model.compile", "is for a compiled memory_attention", "pad_memory")
    elif model.cuda_graphs and not model.pad_memory:
        text = "each frame's memory has a shape of its own, which would be a graph of its own; pad it"
        report.clash("model.cuda_graphs", "model.pad_memory", text)


def _graphs(config: Config, report: Report) -> None:
    name = "model.cuda_graphs"
    if not config.model.cuda_graphs or not config.model.compile:
        return
    if config.trainer.accelerator in ("cpu", "mps"):
        report.clash(name, "trainer.accelerator", "needs a CUDA GPU")
    elif config.trainer.accumulate_grad_batches > 1:
        text = "a step's gradients are stored where the next step's are written; use dataset.batch_size"
        report.clash(name, "trainer.accumulate_grad_batches", text)
    elif not isinstance(config.ray.num_workers, int):
        text = "fewer workers accumulate gradients over several batches; give one number"
        report.clash(name, "ray.num_workers", text)


def _may_match(pattern: str, part: str) -> bool:
    """Tell whether a pattern of trainable modules may match `part` of the network or something in it."""
    start = "" if pattern == "norms" else _literal_start(pattern)
    if start != pattern:
        return f"{part}.".startswith(start) or start.startswith(f"{part}.")
    return f"{pattern}.".startswith(f"{part}.") or part.startswith(f"{pattern}.")


def _contains(pattern: str, target: str) -> bool:
    """Tell whether a pattern of trainable modules surely matches all that `target` names."""
    return pattern == "*" or f"{target}.".startswith(f"{pattern}.")


def _literal_start(pattern: str) -> str:
    """Return a pattern up to its first wildcard."""
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0]


def _is_memory(pattern: str) -> bool:
    start = _literal_start(pattern)
    return start.startswith("memory_") or any(f"{start}.".startswith(f"{part}.") for part in _MEMORY_PARTS)
