"""Tell which parts of a network may train, before there is one, and what that rules out."""

from __future__ import annotations

import re

from sam2vt.config import Config
from sam2vt.configuration.report import Report

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


def trains(config: Config, part: str) -> bool:
    """Tell whether `part` of the network, or something in it, may train."""
    return any(_may_match(pattern, part) for pattern in config.model.trainable_modules)


def check_trainable(config: Config, report: Report) -> None:
    """Report the settings that conflict with `model.trainable_modules`."""
    model, optimizer = config.model, config.optimizer
    encoder_trains = trains(config, "image_encoder")

    def conflict(name: str, text: str) -> None:
        report.clash(name, "model.trainable_modules", text)

    if model.adapter == "none":
        report.unused("model.adapter_settings", "model.adapter", "there is no adapter")
        if not model.trainable_modules:
            report.fault("model.trainable_modules", "must be at least one name or pattern: nothing trains")
    _check_memory(config, report)
    if model.memory_dropout is not None and not trains(config, "memory_attention"):
        conflict("model.memory_dropout", "a frozen memory_attention has no dropout; set it to null")
    if model.encoder_precision is not None and encoder_trains:
        conflict(
            "model.encoder_precision",
            "a pattern there may reach into image_encoder; it is for a frozen one, see trainer.precision",
        )
    if config.dataset.feature_cache is not None and encoder_trains:
        conflict(
            "dataset.feature_cache",
            "a pattern there may reach into image_encoder, whose features then change; name what trains "
            "without it, such as memory_attention, or set dataset.feature_cache=null",
        )
    if "encoder_blocks" in model.recompute and not encoder_trains:
        conflict(
            "model.recompute", "a frozen image_encoder keeps nothing for backward; leave encoder_blocks out"
        )
    if optimizer.encoder_lr is not None and not encoder_trains:
        report.unused("optimizer.encoder_lr", "model.trainable_modules", "no part of image_encoder trains")
    if not trains(config, "image_encoder.trunk"):
        report.unused(
            "optimizer.layer_decay", "model.trainable_modules", "image_encoder.trunk does not train"
        )


def _check_memory(config: Config, report: Report) -> None:
    """Report clips or gradients that are too short for a memory that is to train."""
    model, length = config.model, config.dataset.video_clip_length
    if model.trainable_modules and length == 1 and all(map(_is_memory, model.trainable_modules)):
        report.clash(
            "model.trainable_modules",
            "dataset.video_clip_length",
            "the memory is not used on single frames, so nothing would train; use clips of at least 2",
        )
    if model.bptt_frames is not None and model.bptt_frames >= length:
        report.clash("model.bptt_frames", "dataset.video_clip_length", "never cuts anything; use null")
    elif model.bptt_frames == 1 and any(
        # "*" trains what else there is, so it is not asking for the memory encoder alone.
        pattern != "*" and _may_match(pattern, "memory_encoder")
        for pattern in model.trainable_modules
    ):
        report.clash(
            "model.bptt_frames",
            "model.trainable_modules",
            "cutting after every frame leaves memory_encoder without gradient; use at least 2 or null",
        )


def _may_match(pattern: str, part: str) -> bool:
    """Tell whether a pattern of trainable modules may match `part` of the network or something in it."""
    start = _literal_start(pattern)
    if start != pattern:
        return f"{part}.".startswith(start) or start.startswith(f"{part}.")
    return f"{pattern}.".startswith(f"{part}.") or part.startswith(f"{pattern}.")


def _literal_start(pattern: str) -> str:
    """Return a pattern up to its first wildcard."""
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0]


def _is_memory(pattern: str) -> bool:
    start = _literal_start(pattern)
    return start.startswith("memory_") or any(f"{start}.".startswith(f"{part}.") for part in _MEMORY_PARTS)
