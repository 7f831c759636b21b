"""Low-rank adapters (LoRA) beside frozen linear layers: added by PEFT for a training, merged wherever else.

A file holds a layer's tensors under the names that they have without adapters, and the adapter's two matrices
beside them. So weights with adapters are read without PEFT, as weights that are merged.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from sam2vt.core.model.trainable import matching_parameters, modules_that_match
from sam2vt.errors import CheckpointError, ConfigError
from sam2vt.health.packages import missing

log = logging.getLogger(__name__)

# PEFT's names of the two matrices: the first is applied first.
_DOWN, _UP = ".lora_A.default.weight", ".lora_B.default.weight"


def is_adapter(name: str) -> bool:
    """Return whether a tensor is an adapter's."""
    return name.endswith((_DOWN, _UP))


def adapted_layers(network: nn.Module, targets: Sequence[str]) -> list[str]:
    """Return the names of the linear layers in the modules that `targets` match, by names or glob patterns.

    Raises ConfigError for a target that matches no linear layer.
    """
    linear = [name for name, each in network.named_modules() if type(each) is nn.Linear]
    found: set[str] = set()
    for target in targets:
        modules = modules_that_match(network, target)
        own = {name for name in linear if any(f"{name}.".startswith(f"{each}.") for each in modules)}
        if not own:
            parts = sorted({name.split(".")[0] for name in linear})
            raise ConfigError(
                f"model.lora.targets: {target!r} matches no linear layer of the network; "
                f"{', '.join(parts)} have some, mask_decoder is short for sam_mask_decoder, and deeper paths "
                f"and * ? [] work, such as image_encoder.trunk.blocks.*.attn"
            )
        found |= own
    return [name for name in linear if name in found]


def check_adapters(network: nn.Module, targets: Sequence[str], trainable_modules: Sequence[str]) -> None:
    """Raise ConfigError for targets that match no linear layer or train as a whole, and without PEFT."""
    weights = {f"{name}.weight" for name in adapted_layers(network, targets)}
    for pattern in trainable_modules:
        if both := sorted(weights & matching_parameters(network, [pattern])):
            raise ConfigError(
                f"model.trainable_modules: {pattern!r} matches {both[0]}, to which model.lora.targets add an "
                f"adapter; set model.trainable_modules=[] to train the adapters alone"
            )
    if (fault := missing("peft")) is not None:
        raise ConfigError(f"model.lora: {fault}")


def add_adapters(network: nn.Module, settings: Mapping[str, Any]) -> list[str]:
    """Add adapters, which change nothing at first; return the names of their parameters.

    `settings` are those of `LoraConfig`. Raises ConfigError for a target that matches no linear layer.
    """
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds, as it imports transformers

    layers = adapted_layers(network, settings["targets"])
    config = LoraConfig(
        r=settings["rank"],
        lora_alpha=settings["alpha"],
        lora_dropout=settings["dropout"],
        # A list would match by the ends of names.
        target_modules="|".join(map(re.escape, layers)),
    )
    inject_adapter_in_model(config, network)
    for module in network.modules():
        if "cast_input_dtype_enabled" in vars(module):
            # Autocast casts the input. With PEFT's cast a float32 copy of it would be stored, too.
            vars(module)["cast_input_dtype_enabled"] = False
    names = [name for name, _ in network.named_parameters() if is_adapter(name)]
    log.info("adapters of rank %d at %d layers", settings["rank"], len(layers))
    return names


def merged(state: Mapping[str, Tensor], settings: Mapping[str, Any] | None, where: str) -> dict[str, Tensor]:
    """Return a network's tensors with the adapters among them added to the weights.

    `settings` are those of the `LoraConfig` that they were trained with, None if they are not known. `where`
    names the file in errors. Raises CheckpointError for adapters that do not fit the weights.
    """
    plain = {name: value for name, value in state.items() if not is_adapter(name)}
    layers = _layers(state)
    if not layers:
        return plain
    rank = settings["rank"] if settings else None
    if not settings or not rank:
        raise CheckpointError(
            f"{where}: holds adapters ({layers[0]}, ...) and no configuration that says how to scale them; "
            f"give a file that sam2vt wrote"
        )
    for layer in layers:
        down, up = state.get(f"{layer}{_DOWN}"), state.get(f"{layer}{_UP}")
        weight = plain.get(f"{layer}.weight")
        if (
            down is None
            or up is None
            or weight is None
            or (down.shape, up.shape) != ((rank, *weight.shape[1:]), (len(weight), rank))
        ):
            raise CheckpointError(
                f"{where}: its adapters do not fit the weights that they are to be added to, as at {layer}; "
                f"they are of another base"
            )
        change = up.double() @ down.double() * (settings["alpha"] / rank)
        plain[f"{layer}.weight"] = (weight.double() + change).to(weight.dtype)
    return plain


def _layers(names: Iterable[str]) -> list[str]:
    """Return the names of the layers that adapters belong to."""
    adapters = (name.removesuffix(_DOWN).removesuffix(_UP) for name in names if is_adapter(name))
    return list(dict.fromkeys(adapters))
