"""Which torch device a setting names."""

from __future__ import annotations

import torch

from sam2vt.errors import ConfigError


def resolve_device(device: str) -> torch.device:
    """The torch device of "auto", "cpu", "cuda", "cuda:1", "mps"; an absent one is a `ConfigError`."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(
            f"model.device: {device!r} is no device; use auto, cpu, cuda or cuda:<n>"
        ) from error
    if target.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"model.device: {device!r} was asked for, but no GPU is usable here; use cpu or auto"
        )
    return target
