"""Explain out-of-memory errors by naming settings with which the training would fit."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import torch

from sam2vt.config import Config
from sam2vt.core.training.footprint.estimate import Estimate, estimate, knobs_that_fit, process_bytes
from sam2vt.errors import TrainingError

log = logging.getLogger(__name__)

MOST_KNOBS = 3
# A step that has just failed at the estimated size must shrink by more than the estimate's error.
SAFE_SHARE = 0.85
GB = 1e9


@contextmanager
def explain_out_of_memory(config: Config) -> Iterator[None]:
    """Turn out-of-memory errors in this block into a TrainingError that says what would fit."""
    libraries = process_bytes()
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        log.warning("out of memory; working out what would fit takes a minute")
        raise TrainingError(_message(config, error, libraries)) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the memory ran out."""
    # PyTorch has an error of its own for this on a GPU, on a CPU only a text.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)


def fitting_lines(config: Config, limit_bytes: float, libraries: float | None = None) -> list[str]:
    """Return up to three overrides as text, each with the GB that the training would take with it."""
    found = islice(knobs_that_fit(config, limit_bytes, libraries), MOST_KNOBS)
    return [f"{override}  ({needed / GB:.2f} GB)" for override, needed in found]


def _message(config: Config, error: BaseException, libraries: float) -> str:
    needed = estimate(config, libraries)
    capacity = device_capacity(needed)
    lines = fitting_lines(config, min(capacity, SAFE_SHARE * needed.device_bytes), libraries)
    where = "the GPU" if needed.device == "cuda" else "this machine"
    first_line = str(error).strip().partition("\n")[0] or type(error).__name__
    remedy = (
        "each of these alone would fit: " + "; ".join(lines)
        if lines
        else "no single setting would make it fit: change model.recompute, dataset.video_clip_length, "
        "max_objects and model.image_size together; `sam2vt estimate` says how much they save"
    )
    return (
        f"out of memory: a step takes about {needed.device_bytes / GB:.2f} GB, {where} has "
        f"{capacity / GB:.2f} GB ({first_line}); {remedy}"
    )


def device_capacity(needed: Estimate) -> float:
    """Return the bytes of the GPU's memory, or without a GPU those of the machine."""
    if needed.device == "cuda" and torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[1])
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
