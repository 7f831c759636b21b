"""What each setting may be on its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sam2vt.config import DatasetConfig
from sam2vt.configuration.report import Report
from sam2vt.errors import ConfigError

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULERS = ("cosine", "step", "constant")
DATASET_TYPES = ("auto", "video", "coco", "mots", "ctc", "cvat", "supervisely")
SPLITS = ("none", "video", "time")
IDENTITIES = ("error", "category", "iou")  # of COCO files without track ids
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
COMPILABLE = ("image_encoder", "memory_attention", "memory_encoder", "mask_decoder")
RECOMPUTABLE = ("image_encoder", "encoder_blocks", "memory_attention", "memory_encoder", "mask_decoder")
PROMPT_TYPES = ("point", "box", "bbox", "mask")
OBJECT_SAMPLINGS = ("uniform", "visible", "large")  # of a clip with too many objects
READ_DEPTHS = ("headers", "masks", "all")  # of a validation; each reads what those before it read, and more
SPEEDUPS = ("auto", "none")
ON_BAD_SAMPLE = ("fail", "quarantine")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

Rule = tuple[Callable[[Any], bool], str]


def _at_least(low: float) -> Rule:
    return (lambda value: low <= value < math.inf), f"at least {low}"


def _above(low: float) -> Rule:
    return (lambda value: low < value < math.inf), f"above {low}"


def _within(low: float, high: float) -> Rule:
    return (lambda value: low <= value <= high), f"between {low} and {high}"


def _range(low: float, high: float) -> Rule:
    fits = lambda pair: low <= pair[0] <= pair[1] <= high  # noqa: E731
    return fits, f"[least, most], both between {low} and {high}"


def _one_of(*allowed: str) -> Rule:
    return (lambda value: value in allowed), f"one of {', '.join(allowed)}"


def _is_device(value: str) -> bool:
    kind, _, index = value.partition(":")
    return value in ("auto", "cpu", "mps") or (kind == "cuda" and (value == kind or index.isdecimal()))


def _is_devices(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(type(index) is int and index >= 0 for index in value)
    return value == "auto" or (type(value) is int and (value == -1 or value >= 1))


def _is_amount(value: float) -> bool:
    """Lightning's reading: an int counts batches, a float is a share."""
    return value >= 1 if isinstance(value, int) else 0 < value <= 1


def _is_number_of_workers(value: Any) -> bool:
    if not isinstance(value, dict):
        return type(value) is int and value >= 1
    if value.keys() != {"min", "max"} or any(type(number) is not int for number in value.values()):
        return False
    return 1 <= value["min"] <= value["max"]


def _are_prompt_types(value: list[str]) -> bool:
    kinds = {"box" if kind == "bbox" else kind for kind in value}
    return set(value) <= set(PROMPT_TYPES) and (len(value) == 1 or len(kinds) > 1)


_AMOUNT = "a share above 0.0 and up to 1.0, or an integer that counts batches"
_MULTIPLE_OF_32: Rule = ((lambda v: v > 0 and v % 32 == 0), "a positive multiple of 32")
_SHARE: Rule = _within(0, 1)
_NON_EMPTY: Rule = ((lambda v: len(v) > 0), "not empty")

_MODEL: dict[str, Rule] = {
    "config_path": _NON_EMPTY,
    "trainable_modules": ((lambda v: bool(v) and all(v)), "a list of at least one name or pattern"),
    "device": (_is_device, "auto, cpu, cuda, cuda:<index> or mps"),
    "num_maskmem": _at_least(1),
    "image_size": _MULTIPLE_OF_32,
    "backbone_stride": ((lambda v: v == 16), "16, the stride from which masks are decoded"),
    "max_obj_ptrs_in_encoder": _at_least(1),
    "max_objects": _at_least(1),
    "num_correction_clicks": _at_least(0),
    "correction_from_gt": _SHARE,
    "bptt_frames": _at_least(1),
    "encoder_precision": _one_of("bf16"),
    "memory_dropout": ((lambda v: 0 <= v < 1), "a number from 0 to below 1, or null for the network's own"),
    "compile": ((lambda v: set(v) <= set(COMPILABLE)), f"a list of {', '.join(COMPILABLE)}"),
    "recompute": ((lambda v: set(v) <= set(RECOMPUTABLE)), f"a list of {', '.join(RECOMPUTABLE)}"),
    "speedups": _one_of(*SPEEDUPS),
}
_DATASET: dict[str, Rule] = {
    "dataset_type": _one_of(*DATASET_TYPES),
    "video_clip_length": _at_least(1),
    "batch_size": _at_least(1),
    "num_workers": _at_least(0),
    "num_of_pos_points": _at_least(1),
    "num_of_neg_points": _at_least(0),
    "clips_per_video": _at_least(1),
    "frame_stride": _at_least(1),
    "max_frame_stride": _at_least(1),
    "reverse_probability": _SHARE,
    "min_object_pixels": _at_least(0),
    "object_sampling": _one_of(*OBJECT_SAMPLINGS),
    "max_conditioning_frames": _at_least(1),
    "identity": _one_of(*IDENTITIES),
    "feature_cache": ((lambda v: bool(v)), "a folder, a URI, auto, or null for none"),
    "prompt_types": (
        _are_prompt_types,
        f"a list of {', '.join(PROMPT_TYPES)}; repeats are weights, so a list of one type has it once",
    ),
}
_AUGMENT: dict[str, Rule] = {
    "mosaic_probability": _SHARE,
    "paste_probability": _SHARE,
    "flip_probability": _SHARE,
    "degrees": _within(0, 180),
    "translate": _SHARE,
    "scale": _range(0.1, 10),
    "shear": _within(0, 60),
    "crop_area": _range(0.01, 1),
    "crop_ratio": _range(0.1, 10),
    "scale_jitter": _range(0.1, 10),
    "brightness": _SHARE,
    "contrast": _SHARE,
    "saturation": _SHARE,
    "hue": _within(0, 0.5),
    "grayscale_probability": _SHARE,
    "frame_brightness": _SHARE,
    "frame_contrast": _SHARE,
    "frame_saturation": _SHARE,
    "blur_probability": _SHARE,
    "blur_sigma": _range(0.1, 10),
    "noise_probability": _SHARE,
    "noise_std": _range(0, 1),
    "jpeg_probability": _SHARE,
    "jpeg_quality": _range(1, 100),
}
LOSS_WEIGHTS = (
    "bce_weight",
    "dice_weight",
    "iou_weight",
    "temporal_weight",
    "iou_head_weight",
    "presence_weight",
    "focal_weight",
)
_RULES: dict[str, dict[str, Rule]] = {
    "model": _MODEL,
    "dataset": _DATASET,
    "dataset.augment": _AUGMENT,
    "valdataset": _DATASET,
    "loss": {name: _at_least(0) for name in LOSS_WEIGHTS}
    | {"smooth": _above(0), "resolution": _one_of("full", "low"), "num_points": _at_least(1)},
    "optimizer": {
        "type": _one_of(*OPTIMIZERS),
        "lr": _above(0),
        "weight_decay": _at_least(0),
        "betas": ((lambda v: all(0 <= beta < 1 for beta in v)), "two numbers from 0 to below 1"),
        "eps": _above(0),
        "encoder_lr": ((lambda v: 0 < v < math.inf), "above 0; to freeze it, see model.trainable_modules"),
        "layer_decay": ((lambda v: 0 < v <= 1), "above 0 and up to 1"),
    },
    "scheduler": {
        "type": _one_of(*SCHEDULERS),
        "T_max": _at_least(1),
        "eta_min": _at_least(0),
        "step_size": _at_least(1),
        "gamma": ((lambda v: 0 < v <= 1), "above 0 and up to 1"),
        "warmup_steps": _at_least(0),
    },
    "trainer": {
        "accelerator": _one_of("auto", "cpu", "gpu", "cuda", "mps"),
        "devices": (_is_devices, "auto, -1, a number of devices, or a list of device indices"),
        "precision": _one_of(*PRECISIONS),
        "max_epochs": ((lambda v: v == -1 or v >= 1), "at least 1, or -1 where max_steps ends the run"),
        "max_steps": ((lambda v: v == -1 or v >= 1), "at least 1, or -1 for no limit"),
        "gradient_clip_val": _at_least(0),
        "accumulate_grad_batches": _at_least(1),
        "limit_train_batches": (_is_amount, _AMOUNT),
        "limit_val_batches": ((lambda v: v == 0 or _is_amount(v)), f"{_AMOUNT}; 0 for no validation"),
        "val_check_interval": (_is_amount, _AMOUNT),
        "num_sanity_val_steps": _at_least(-1),
        "log_every_n_steps": _at_least(1),
        "early_stopping_patience": _at_least(1),
        "check_val_every_n_epoch": _at_least(1),
        "num_overlay_videos": _at_least(0),
        "checkpoint_every_n_steps": _at_least(1),
        "keep_best": _at_least(1),
    },
    "ray": {
        "local_cpus": _at_least(1),
        "num_workers": (
            _is_number_of_workers,
            "a number of at least 1, or {min: 2, max: 8} with a min that is at most max",
        ),
        "cpus_per_worker": _at_least(1),
        "worker_resources": (
            (lambda v: "CPU" not in v and all(n > 0 for n in v.values())),
            "names with numbers above 0; CPUs are ray.cpus_per_worker",
        ),
        "collective_timeout_seconds": _above(0),
        "resize_check_seconds": _above(0),
        "decode_actors": _at_least(1),
        "prefetch_batches": _at_least(0),
        "max_failures": _at_least(-1),
    },
    "": {
        "name": _NON_EMPTY,
        "max_objects": _at_least(1),
        "seed": ((lambda v: 0 <= v < 2**32), "from 0 to 4294967295"),
        "split": _one_of(*SPLITS),
        "val_fraction": ((lambda v: 0 < v < 1), "above 0 and below 1"),
        "wandb_project": _NON_EMPTY,
        "output_dir": _NON_EMPTY,
        "log_level": _one_of(*LOG_LEVELS),
        "on_bad_sample": _one_of(*ON_BAD_SAMPLE),
    },
}


def check_values(report: Report) -> None:
    """Report every value that is not allowed, whatever the others are; null is for `reading` to judge."""
    for section, rules in _RULES.items():
        for name, (fits, allowed) in rules.items():
            field = f"{section}.{name}".lstrip(".")
            value = report.value(field)
            if value is not None and not fits(value):
                report.fault(field, f"must be {allowed}")


def value_faults(settings: DatasetConfig) -> list[tuple[str, str]]:
    """(field=value, what it must be) of each value of one dataset that is not allowed."""
    found = []
    for prefix, owner, rules in (("", settings, _DATASET), ("augment.", settings.augment, _AUGMENT)):
        for name, (fits, allowed) in rules.items():
            value = getattr(owner, name)
            if value is not None and not fits(value):
                found.append((f"{prefix}{name}={value!r}", f"must be {allowed}"))
    return found


def check_augment(settings: Any) -> None:
    """Raise ConfigError for the first value of an `AugmentConfig` that is not allowed."""
    for name, (fits, allowed) in _AUGMENT.items():
        value = getattr(settings, name)
        if not fits(value):
            raise ConfigError(f"augment.{name}={value!r}: must be {allowed}")
