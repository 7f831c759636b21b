"""A network YAML and a checkpoint become SAM 2's network.

The YAML is read with OmegaConf and instantiated directly: importing `sam2` touches Hydra's global
state, so composing through it would mean something else under `hydra.main`, in a Ray worker and in a
notebook.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from sam2vt.configuration.reading import configs_dir
from sam2vt.errors import ConfigError

NETWORK_CLASS = "sam2.modeling.sam2_base.SAM2Base"


def network_yaml(config_path: str) -> Path:
    """Where `config_path` lies: a file, a name inside the `sam2` package, or one of our configs."""
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
    """The network's YAML with the input size and architecture fields of the configuration put in.

    `overrides` are fields of `SAM2Base.__init__`; one that it does not have is a `ConfigError`.
    `memory_dropout` takes the place of every dropout of the memory attention.
    """
    path = network_yaml(config_path)
    config = OmegaConf.load(path)
    if not isinstance(config, DictConfig) or "model" not in config:
        raise ConfigError(f"model.config_path: {path} has no top-level key 'model' as SAM 2's YAML files do")
    _check_targets(config.model, str(path))
    model = config.model
    model._target_ = NETWORK_CLASS
    fields = architecture_fields()
    for name, value in (overrides or {}).items():
        if name not in fields:
            raise ConfigError(f"model.{name}: SAM 2's network has no such field; it has {', '.join(fields)}")
        model[name] = value
    model.image_size = image_size
    _fit_rotary_sizes(model, image_size // int(model.get("backbone_stride", 16)))
    if memory_dropout is not None:
        layer = model.memory_attention.layer
        for part in (layer, layer.self_attention, layer.cross_attention):
            part.dropout = memory_dropout
    return DictConfig({"model": model})


def build_network(config: DictConfig, recompute_blocks: bool = False) -> nn.Module:
    """SAM 2's network with random weights, on the CPU, from `network_config`'s result.

    With `recompute_blocks` the encoder's blocks keep only their inputs for backward.
    """
    from hydra.utils import instantiate

    _sam2_folder()
    try:
        network = instantiate(config.model, _recursive_=True)
    except Exception as error:
        raise ConfigError(
            f"model: SAM 2's network cannot be built from this configuration: {error}"
        ) from error
    from sam2vt.core.model import replacements
    from sam2vt.core.model.speedups import image_encoder as image_windows

    replacements.replace_modules(network)
    if recompute_blocks:
        image_windows.recompute_blocks(network)
    return network


def check_architecture(network: Any, config_path: str) -> None:
    """ConfigError where the network is one that cannot be tracked with."""
    for name in ("use_mask_input_as_output_without_sam", "directly_add_no_mem_embed"):
        if not getattr(network, name):
            raise ConfigError(f"{config_path}: {name} is false; must be true, as in SAM 2.1")
    timed = network.use_obj_ptrs_in_encoder and network.add_tpos_enc_to_obj_ptrs
    if timed and network.max_obj_ptrs_in_encoder < 2:
        raise ConfigError(
            f"{config_path}: max_obj_ptrs_in_encoder is {network.max_obj_ptrs_in_encoder}; must be 2 or more "
            "with add_tpos_enc_to_obj_ptrs, whose time code is a share of the longest distance"
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
    """What `SAM2Base.__init__` takes beside its three parts."""
    from sam2.modeling.sam2_base import SAM2Base

    parts = {"self", "image_encoder", "memory_attention", "memory_encoder"}
    return [name for name in inspect.signature(SAM2Base.__init__).parameters if name not in parts]


def _check_targets(node: Any, path: str) -> None:
    """Refuse a YAML that would call anything but SAM 2's own classes."""
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
    """Rotary codes are rebuilt on a size they were not made for; make them fit from the start."""
    layer = model.memory_attention.layer
    for attention in (layer.self_attention, layer.cross_attention):
        if "feat_sizes" in attention:
            attention.feat_sizes = [feature_size, feature_size]
