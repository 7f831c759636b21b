"""Build SAM 2's network from a YAML, with our modules in place of some of SAM 2's.

The YAML is read with OmegaConf and instantiated directly. Importing `sam2` changes Hydra's global state, so
composing through Hydra would give different results under `hydra.main`, in a Ray worker and in a notebook.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from sam2vt.configuration.reading import configs_dir
from sam2vt.errors import ConfigError

NETWORK_CLASS = "sam2.modeling.sam2_base.SAM2Base"


def network_yaml(config_path: str) -> Path:
    """Return the file of `config_path`: a path, a name inside the `sam2` package, or one of our configs."""
    path = Path(config_path).expanduser()
    if path.is_file():
        return path
    folders = (_sam2_folder(), configs_dir())
    for folder in folders:
        if (folder / config_path).is_file():
            return folder / config_path
    raise ConfigError(
        f"model.config_path: no network YAML at {config_path!r}, neither as a file nor below "
        f"{' or '.join(map(str, folders))}. Name one inside the sam2 package, such as "
        f"configs/sam2.1/sam2.1_hiera_t.yaml, or give the path of your own."
    )


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
    path = network_yaml(config_path)
    config = OmegaConf.load(path)
    if not isinstance(config, DictConfig) or "model" not in config:
        raise ConfigError(f"model.config_path: {path} has no top-level key 'model' as SAM 2's YAML files do")
    _check_targets(config.model, str(path))
    model = config.model
    model._target_ = NETWORK_CLASS
    model.update(overrides or {})
    model.image_size = image_size
    if model.get("use_obj_ptrs_in_encoder") is False:
        model.fixed_no_obj_ptr = False  # it is a kind of pointer, and SAM 2 asserts that there are any
    _fit_rotary_sizes(model, image_size // int(model.get("backbone_stride", 16)))
    if memory_dropout is not None:
        layer = model.memory_attention.layer
        for part in (layer, layer.self_attention, layer.cross_attention):
            part.dropout = memory_dropout
    return DictConfig({"model": model})


def build_network(config: DictConfig, speedups: str = "auto", recompute_blocks: bool = False) -> nn.Module:
    """Return SAM 2's network with random weights, on the CPU, from `network_config`'s result.

    With `recompute_blocks` the encoder's blocks store only their inputs for the backward pass.
    """
    from hydra.utils import instantiate

    _sam2_folder()
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

    What saves operations or memory on every device always replaces SAM 2's; `speedups` "none" leaves out
    what only a CPU gains from.
    """
    # All of these extend SAM 2's classes, and `sam2` may only be imported when a network is built.
    from sam2.modeling.backbones.hieradet import MultiScaleBlock
    from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
    from sam2.modeling.sam.transformer import RoPEAttention

    from sam2vt.core.model.encoder_blocks import UnpaddedBlock
    from sam2vt.core.model.speedups.dropout import FastDropoutAttention, FastDropoutLayer
    from sam2vt.core.model.speedups.windows import SharedPaddingBlock
    from sam2vt.core.model.tracking.memory_layers import MemoryLayer, MemoryLayers, RotaryAttention

    rows: list[tuple[type[nn.Module], type[nn.Module], type[nn.Module]]] = [
        # SAM 2's, ours, ours with speedups
        (MultiScaleBlock, UnpaddedBlock, SharedPaddingBlock),
        (RoPEAttention, RotaryAttention, FastDropoutAttention),
        (MemoryAttentionLayer, MemoryLayer, FastDropoutLayer),
        (MemoryAttention, MemoryLayers, MemoryLayers),
    ]
    column = {"none": 1, "auto": 2}[speedups]
    return {row[0]: row[column] for row in rows}


def replace_modules(network: nn.Module, classes: Mapping[type[nn.Module], type[nn.Module]]) -> None:
    """Give modules of these classes the class on the right; their parameters keep names and values."""
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


def _sam2_folder() -> Path:
    try:
        import sam2
    except ImportError as error:
        raise ConfigError(
            "SAM 2 is not installed: `pip install 'sam2vt[sam2]'`, or install Meta's own repository"
        ) from error
    return Path(sam2.__path__[0])


def architecture_fields() -> list[str]:
    """Return the names that `SAM2Base.__init__` takes besides its three parts."""
    from sam2.modeling.sam2_base import SAM2Base

    parts = {"self", "image_encoder", "memory_attention", "memory_encoder"}
    return [name for name in inspect.signature(SAM2Base.__init__).parameters if name not in parts]


def _check_targets(node: Any, path: str) -> None:
    """Raise ConfigError for a YAML that would call anything but SAM 2's own classes."""
    if isinstance(node, DictConfig):
        target = node.get("_target_")
        if target is not None and not str(target).startswith(
            ("sam2.modeling.", "sam2.sam2_video_predictor.")
        ):
            raise ConfigError(
                f"{path}: _target_ {target!r} is not allowed; a network YAML may name classes below "
                f"sam2.modeling only"
            )
        for value in node.values():
            _check_targets(value, path)


def _fit_rotary_sizes(model: DictConfig, feature_size: int) -> None:
    """Make rotary codes for this size: RoPEAttention would rebuild them at the first call otherwise."""
    layer = model.memory_attention.layer
    for attention in (layer.self_attention, layer.cross_attention):
        if "feat_sizes" in attention:
            attention.feat_sizes = [feature_size, feature_size]
