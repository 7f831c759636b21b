"""Build SAM 2's network from a YAML, with our modules instead of some of SAM 2's.

The YAML is read with OmegaConf and instantiated directly. Importing `sam2` changes Hydra's global state, so
composing through Hydra would give different results under `hydra.main`, in a Ray worker and in a notebook.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from sam2vt.core.model.network_yaml import NETWORK_CLASS, checked_network, read_network, sam2_folder
from sam2vt.errors import ConfigError


def network_config(
    config_path: str,
    image_size: int,
    overrides: dict[str, Any] | None = None,
    memory_dropout: float | None = None,
) -> DictConfig:
    """Return the network's YAML with the configuration's input size and architecture fields.

    `overrides` are fields of `SAM2Base.__init__`. `memory_dropout` replaces every dropout of the memory
    attention. Raises ConfigError for a YAML that is not one of SAM 2's.
    """
    model = read_network(config_path)
    model._target_ = NETWORK_CLASS
    model.update(overrides or {})
    model.image_size = image_size
    try:
        if model.get("use_obj_ptrs_in_encoder") is False:
            model.fixed_no_obj_ptr = False  # it is a kind of pointer, and SAM 2 asserts that there are any
        _fit_rotary_sizes(model, image_size // int(model.get("backbone_stride", 16)))
        if memory_dropout is not None:
            layer = model.memory_attention.layer
            for part in (layer, layer.self_attention, layer.cross_attention):
                part.dropout = memory_dropout
    except (OmegaConfBaseException, AttributeError, TypeError) as error:
        raise ConfigError(f"{config_path}: is no YAML of SAM 2's: {error}") from error
    return checked_network(model, config_path)


def build_network(config: DictConfig, speedups: str = "auto", recompute_blocks: bool = False) -> nn.Module:
    """Return SAM 2's network with random weights, on the CPU, from `network_config`'s result.

    With `recompute_blocks` the encoder's blocks store only their inputs for the backward pass.
    """
    from hydra.utils import instantiate

    sam2_folder()
    try:
        network = instantiate(config.model, _recursive_=True)
    except Exception as error:
        raise ConfigError(
            f"model: SAM 2's network cannot be built from this configuration: {error}"
        ) from error
    replace_modules(network, replacements(speedups))
    for module in network.modules() if recompute_blocks else ():
        if hasattr(module, "recompute"):
            module.recompute = True
    return network


def replacements(speedups: str = "auto") -> dict[type[nn.Module], type[nn.Module]]:
    """Return our class for each class of SAM 2 that it replaces: the same parameters and results.

    Classes that save operations or memory on every device always replace SAM 2's; `speedups` "none" leaves
    out those that only help on a CPU.
    """
    # All of these extend SAM 2's classes, and `sam2` may only be imported when a network is built.
    from sam2.modeling.backbones.hieradet import MultiScaleBlock
    from sam2.modeling.backbones.image_encoder import FpnNeck
    from sam2.modeling.backbones.utils import PatchEmbed
    from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
    from sam2.modeling.sam.transformer import RoPEAttention

    from sam2vt.core.model.encoder_blocks import ContiguousPatches, PlainNeck, UnpaddedBlock
    from sam2vt.core.model.speedups.dropout import FastDropoutLayer
    from sam2vt.core.model.speedups.narrow_memory import NarrowMemoryAttention
    from sam2vt.core.model.speedups.windows import SharedPaddingBlock
    from sam2vt.core.model.tracking.memory_layers import MemoryLayer, MemoryLayers, RotaryAttention

    rows: list[tuple[type[nn.Module], type[nn.Module], type[nn.Module]]] = [
        # SAM 2's, ours, ours with speedups
        (MultiScaleBlock, UnpaddedBlock, SharedPaddingBlock),
        (PatchEmbed, ContiguousPatches, ContiguousPatches),
        (FpnNeck, PlainNeck, PlainNeck),
        (RoPEAttention, RotaryAttention, NarrowMemoryAttention),
        (MemoryAttentionLayer, MemoryLayer, FastDropoutLayer),
        (MemoryAttention, MemoryLayers, MemoryLayers),
    ]
    column = {"none": 1, "auto": 2}[speedups]
    return {row[0]: row[column] for row in rows}


def replace_modules(network: nn.Module, classes: Mapping[type[nn.Module], type[nn.Module]]) -> None:
    """Replace classes of modules by this table; parameters keep names and values."""
    for module in network.modules():
        module.__class__ = classes.get(type(module), type(module))


def check_architecture(network: Any, config_path: str, pad_memory: bool = False) -> None:
    """Raise ConfigError if objects cannot be tracked with this network, or not with `pad_memory`."""
    from sam2vt.core.model.tracking.memory_layers import RotaryAttention

    for name in ("use_mask_input_as_output_without_sam", "directly_add_no_mem_embed"):
        if not getattr(network, name):
            raise ConfigError(f"{config_path}: {name} is false; must be true, as in SAM 2.1")
    timed = network.use_obj_ptrs_in_encoder and network.add_tpos_enc_to_obj_ptrs
    if timed and network.max_obj_ptrs_in_encoder < 2:
        raise ConfigError(
            f"{config_path}: max_obj_ptrs_in_encoder is {network.max_obj_ptrs_in_encoder}; must be 2 or more "
            "with add_tpos_enc_to_obj_ptrs, whose time code is a share of the longest distance"
        )
    attentions = [layer.cross_attn_image for layer in network.memory_attention.layers]
    unfit = [type(each).__name__ for each in attentions if not isinstance(each, RotaryAttention)]
    if pad_memory and unfit:  # no other attention can hide what only pads its memory
        raise ConfigError(
            f"model.pad_memory: needs RoPEAttention as the network's cross_attention, it has {unfit[0]}; "
            f"set it to false"
        )


def network_differences(first: DictConfig, other: DictConfig) -> list[str]:
    """Return each field that differs between two results of `network_config`, with both values.

    A field that a YAML leaves out has SAM 2's default.
    """
    ours, theirs = (dict(_values(completed(each), "model")) for each in (first, other))
    missing = "not there"
    return [
        f"{name} is {ours.get(name, missing)}, there {theirs.get(name, missing)}"
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name, missing) != theirs.get(name, missing)
    ]


def completed(network: DictConfig) -> dict[str, Any]:
    """Return the fields of `network_config`'s result, with SAM 2's defaults for those that are left out."""
    given: Any = OmegaConf.to_container(network.model, resolve=True)
    return _with_defaults(given)


def _with_defaults(node: Any) -> Any:
    """Return a network's section, or any value in it, with the defaults of the classes it names."""
    if isinstance(node, (list, tuple)):
        return list(node)
    if not isinstance(node, Mapping):
        return node
    defaults: dict[str, Any] = {}
    if target := node.get("_target_"):
        file, _, name = target.rpartition(".")
        arguments = inspect.signature(getattr(importlib.import_module(file), name).__init__).parameters
        defaults = {n: each.default for n, each in arguments.items() if each.default is not each.empty}
    return {name: _with_defaults(value) for name, value in {**defaults, **node}.items()}


def _values(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of each value in nested mappings."""
    if isinstance(node, Mapping):
        for name, each in node.items():
            yield from _values(each, f"{place}.{name}")
    else:
        yield place, node


def architecture_fields() -> list[str]:
    """Return the names that `SAM2Base.__init__` takes besides its three parts."""
    from sam2.modeling.sam2_base import SAM2Base

    parts = {"self", "image_encoder", "memory_attention", "memory_encoder"}
    return [name for name in inspect.signature(SAM2Base.__init__).parameters if name not in parts]


def _fit_rotary_sizes(model: DictConfig, feature_size: int) -> None:
    """Make rotary codes for this size: RoPEAttention would rebuild them at the first call otherwise."""
    layer = model.memory_attention.layer
    for attention in (layer.self_attention, layer.cross_attention):
        if "feat_sizes" in attention:
            attention.feat_sizes = [feature_size, feature_size]
