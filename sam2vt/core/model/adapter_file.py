"""Adapter files: what trained beside a base, as safetensors that name the base and the model's settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sam2vt.core.storage.disk import ADAPTER
from sam2vt.errors import CheckpointError, first_line
from sam2vt.health.packages import missing

_KEYS = ("base", "model")  # of the file's metadata, as JSON


def write_adapter(
    out: Path, state: Mapping[str, Tensor], base: Mapping[str, str], model: Mapping[str, Any]
) -> None:
    """Write the network's tensors that a base lacks.

    `base` is how a checkpoint names it, `model` are the settings of `ModelConfig`. Raises OSError.
    """
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    # Not `save_file`, whose files only their owner may read.
    out.write_bytes(save(tensors, dict(zip(_KEYS, map(json.dumps, (base, model))))))


def read_adapter(local: str, path: str) -> dict[str, Any]:
    """Return an adapter file in the form of a training checkpoint; `path` is its address in messages.

    Raises CheckpointError for a file that sam2vt did not write, or that cannot be read.
    """
    if (fault := missing("safetensors")) is not None:
        raise CheckpointError(f"{path}: {fault}")
    from safetensors import safe_open

    try:
        with safe_open(local, "pt") as file:
            known = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # its own error is no subclass of any other
        raise CheckpointError(f"{path}: cannot be read, it may be cut off: {first_line(error)}") from error
    try:
        base, model = (json.loads(known[key]) for key in _KEYS)
    except (KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: does not name its base and its model, so sam2vt did not write it; give the adapter "
            f"file of a run, such as checkpoints/best{ADAPTER}"
        ) from error
    return {"model": state, "base": base, "hyper_parameters": {"config": {"model": model}}}
