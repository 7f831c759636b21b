"""Where a training runs out of memory, the error names the settings with which it would fit."""

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
# What has just failed at the estimated size must shrink by more than the estimate's error.
SAFE_SHARE = 0.85
GB = 1e9


@contextmanager
def explain_out_of_memory(config: Config) -> Iterator[None]:
    """Turns a device's or the machine's refusal of memory into a TrainingError that says what would fit."""
    libraries = process_bytes()
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        log.warning("out of memory; working out what would fit takes a minute")
        raise TrainingError(_message(config, error, libraries)) from error


def is_out_of_memory(error: BaseException) -> bool:
    """PyTorch has an error of its own for this on a GPU, on a CPU a text only."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)


def fitting_lines(config: Config, limit_bytes: float, libraries: float | None = None) -> list[str]:
    """Up to three overrides, each with what the training takes with it alone."""
    found = islice(knobs_that_fit(config, limit_bytes, libraries), MOST_KNOBS)
    return [f"{override}  ({needed / GB:.2f} GB)" for override, needed in found]


def _message(config: Config, error: BaseException, libraries: float) -> str:
    needed = estimate(config, libraries)
    there = memory_there(needed)
    lines = fitting_lines(config, min(there, SAFE_SHARE * needed.device_bytes), libraries)
    where = "the GPU" if needed.device == "cuda" else "this machine"
    first_line = str(error).strip().partition("\n")[0] or type(error).__name__
    remedy = (
        "each of these alone would fit: " + "; ".join(lines)
        if lines
        else "no single setting would make it fit: change model.recompute, dataset.video_clip_length, "
        "max_objects and model.image_size together, `sam2vt estimate` says what they give"
    )
    return (
        f"out of memory: a step takes about {needed.device_bytes / GB:.2f} GB, {where} has "
        f"{there / GB:.2f} GB ({first_line}); {remedy}"
    )


def memory_there(needed: Estimate) -> float:
    """Bytes of the GPU's memory, without one of the machine's."""
    if needed.device == "cuda" and torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[1])
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
