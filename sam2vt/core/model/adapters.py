"""Add adapters: small trainable parameters in a network whose own weights stay frozen.

To add one, write its function, a row of `ADAPTERS` and one of `sam2vt.config.ADAPTED_PARTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn

from sam2vt.errors import CheckpointError, ConfigError

NONE = "none"


class Adapter(NamedTuple):
    """The functions that add an adapter to a network and, for export, merge it.

    `adapt(network, settings)` adds parameters, with `settings` from `model.adapter_settings`. Existing
    parameters keep their names, so that checkpoints of the base model still fit. `merge(network)` folds the
    added parameters into the network's own and removes them; None means that the adapter cannot be exported.
    """

    adapt: Callable[[nn.Module, Mapping[str, Any]], None]
    merge: Callable[[nn.Module], None] | None = None


ADAPTERS: dict[str, Adapter] = {}


def adapt(network: nn.Module, name: str, settings: Mapping[str, Any]) -> list[str]:
    """Add the adapter `name` to a network with weights; return the names of the added parameters.

    Raises ConfigError for an unknown adapter, and for one that renames parameters of the network.
    """
    if name == NONE:
        return []
    if name not in ADAPTERS:
        raise ConfigError(f"model.adapter: got {name!r}; allowed are {', '.join([NONE, *ADAPTERS])}")
    before = {each for each, _ in network.named_parameters()}
    ADAPTERS[name].adapt(network, settings)
    after = [each for each, _ in network.named_parameters()]
    lost = sorted(before - set(after))
    if lost:
        raise ConfigError(
            f"model.adapter: {name!r} renames or removes parameters, such as {lost[0]}; an adapter may only "
            f"add some, so that checkpoints of the base model fit"
        )
    return [each for each in after if each not in before]


def merge(network: nn.Module, name: str, where: str) -> None:
    """Fold the adapter `name` into the network's own weights; `where` names the checkpoint in errors."""
    if name == NONE:
        return
    merged = ADAPTERS[name].merge
    if merged is None:
        raise CheckpointError(
            f"{where}: was trained with model.adapter={name}, which cannot be merged into SAM 2's weights; "
            f"use the checkpoint with sam2vt itself"
        )
    merged(network)
