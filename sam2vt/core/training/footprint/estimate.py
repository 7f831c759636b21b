"""Estimate the memory of a training by purpose, and find single settings that would make it fit."""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from sam2vt.config import Config, ModelConfig
from sam2vt.configuration.loading import load_config, to_dict
from sam2vt.configuration.model_conflicts import trains
from sam2vt.core.training.footprint.step import simulate_step
from sam2vt.settings import choices

log = logging.getLogger(__name__)

PREFETCHED = 2  # batches that each loader process has ready, as torch's DataLoader does
# Memory of a GPU that no tensor holds: its context and the libraries' work spaces.
CUDA_CONTEXT_BYTES = 600e6
# The same for a process on a CPU: buffers inside operations, and the run's own objects.
CPU_WORK_SPACES_BYTES = 200e6
WITHOUT_ENCODER = ("memory_attention", "memory_encoder", "mask_decoder")


@dataclass(frozen=True)
class Estimate:
    """Bytes by purpose, on the training device and on the host."""

    device: str  # cpu or cuda
    on_device: dict[str, float]
    on_host: dict[str, float]
    frame_features: float = 0.0  # of a frame in the feature cache, on disk

    @property
    def device_bytes(self) -> float:
        """Bytes that must fit on the GPU, or without a GPU into this process."""
        return sum(self.on_device.values())


def estimate(config: Config, libraries: float | None = None) -> Estimate:
    """Return the bytes that the training of one worker needs at the peak of a step.

    On a CPU one process contains everything: the libraries, the weights and the step. The step runs on
    tensors without content; weights and data are not read. `libraries` are the bytes of a process before it
    trains, by default of this process.
    """
    libraries = process_bytes() if libraries is None else libraries
    device = device_of(config)
    step = simulate_step(config, device)
    purposes = ("weights", "gradients", "optimizer", "activations", "batch")
    parts: dict[str, float] = {name: getattr(step, name) for name in purposes}
    parts |= {"averaged weights": float(step.average)} if step.average else {}
    in_flight = {"batches in flight": float(PREFETCHED * config.dataset.num_workers * step.batch)}
    if device == "cuda":
        on_device = {**parts, "context": CUDA_CONTEXT_BYTES}
        return Estimate(device, on_device, {**in_flight, "process": libraries}, step.frame_features)
    on_device = {"libraries": libraries + CPU_WORK_SPACES_BYTES, **parts}
    return Estimate(device, on_device, in_flight, step.frame_features)


def knobs_that_fit(
    config: Config, limit_bytes: float, libraries: float | None = None
) -> Iterator[tuple[str, float]]:
    """Yield (override, bytes) for each single change after which the training takes at most `limit_bytes`.

    Changes that only cost time come first, then changes that affect the result.
    """
    for override, changed in _knobs(config):
        log.info("trying %s", override)  # each takes seconds
        needed = estimate(changed, libraries).device_bytes
        if needed <= limit_bytes:
            yield override, needed


def device_of(config: Config) -> str:
    """Return where the configured training runs: cuda or cpu."""
    accelerator = config.trainer.accelerator
    on_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    return "cuda" if on_gpu else "cpu"


def process_bytes() -> float:
    """Return the peak resident memory of this process so far, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in KiB, on macOS in bytes
    return float(most if sys.platform == "darwin" else most * 1024)


def _knobs(config: Config) -> Iterator[tuple[str, Config]]:
    """Single changes, each with the configuration that results."""
    yield from _recomputing(config)
    if config.dataset.batch_size > 1:
        yield _changed(config, "dataset.batch_size=1", {"dataset.batch_size": 1})
    if config.max_objects > 1:
        yield _changed(config, "max_objects=1", {"max_objects": 1, "model.max_objects": 1})
    shorter = max(2, config.dataset.video_clip_length // 2)
    if shorter < config.dataset.video_clip_length:
        yield _changed(config, f"dataset.video_clip_length={shorter}", {"dataset.video_clip_length": shorter})
    if config.model.image_size >= 256:
        half = config.model.image_size // 64 * 32
        sizes = {f"{section}.image_size": (half, half) for section in ("dataset", "valdataset")}
        yield _changed(config, f"model.image_size={half}", {"model.image_size": half, **sizes})


def _recomputing(config: Config) -> Iterator[tuple[str, Config]]:
    """Ever more parts to recompute beside the configured ones, without those that would save nothing."""
    spared: set[str] = set() if trains(config, "image_encoder") else {"encoder_blocks"}
    if config.dataset.feature_cache is not None:
        spared.add("image_encoder")
    given, all_parts = set(config.model.recompute), choices(ModelConfig, "recompute")
    for more in (WITHOUT_ENCODER, ("image_encoder", *WITHOUT_ENCODER), all_parts):
        wanted = given | set(more) - spared
        if wanted != given:
            given, parts = wanted, [part for part in all_parts if part in wanted]
            yield _changed(config, f"model.recompute=[{','.join(parts)}]", {"model.recompute": parts})


def _changed(config: Config, override: str, values: dict[str, Any]) -> tuple[str, Config]:
    changed = to_dict(config)
    for name, value in values.items():
        section, _, field = name.rpartition(".")
        (changed[section] if section else changed)[field] = value
    return override, load_config(changed)
