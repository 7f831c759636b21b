"""Find and read network YAMLs; a YAML that would run anything but SAM 2's own modules is refused.

Hydra calls whatever a YAML names as `_target_`, and people share YAMLs. So a whole YAML is checked before
anything in it is called.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from sam2vt.configuration.reading import configs_dir
from sam2vt.configuration.yaml_files import check_extent
from sam2vt.core.model.hf.config import TEMPLATE, network_of
from sam2vt.core.storage.fetching import expand_user
from sam2vt.core.storage.hf_folder import CONFIG, WEIGHTS, is_weights, read_config
from sam2vt.core.storage.hub import HUB_PREFIX, download, hub_parts
from sam2vt.errors import ConfigError

NETWORK_CLASS = "sam2.modeling.sam2_base.SAM2Base"
# What a YAML may name at its top: `SAM2Base` is built instead of all of them.
_PREDICTORS = ("SAM2VideoPredictor", "SAM2VideoPredictorVOS")
_LAYERS = re.compile(r".*\.(num_layers|depth|stages(\[\d+\])?)")
_MOST_LAYERS = 1_000  # SAM 2's networks have up to 36 in a stage; millions would be built for hours
# Meta's names of its files and of its YAMLs differ in the size only.
_META = re.compile(r"(?P<version>sam2(\.1)?)_hiera_(?P<size>tiny|small|base_plus|large)\.pt")
_META_SIZES = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
_TOP = (NETWORK_CLASS, *(f"sam2.sam2_video_predictor.{name}" for name in _PREDICTORS))


def network_yaml(config_path: str) -> Path:
    """Return the file of `config_path`: a path, a name inside the `sam2` package, or one of our configs."""
    path = Path(config_path).expanduser()
    if path.is_file():
        return path
    folders = (sam2_folder(), configs_dir())
    for folder in folders:
        if (folder / config_path).is_file():
            return folder / config_path
    raise ConfigError(
        f"model.config_path: no network YAML at {config_path!r}, neither as a file nor below "
        f"{' or '.join(map(str, folders))}. Name one inside the sam2 package, such as "
        f"configs/sam2.1/sam2.1_hiera_t.yaml, or give the path of your own."
    )


def yaml_beside(weights: str) -> str | None:
    """Return the network's YAML of a file that holds weights alone; None if it has none.

    It is the one of the same name beside it, as `sam2vt export` writes it, the config.json of transformers'
    form, or Meta's by the name of Meta's file.
    """
    if is_weights(weights):
        config = f"{weights.removesuffix(WEIGHTS)}{CONFIG}"
        return download(config) if weights.startswith(HUB_PREFIX) else expand_user(config)
    beside = Path(expand_user(weights)).with_suffix(".yaml")
    if "://" not in weights and beside.is_file():
        return str(beside)
    name = hub_parts(weights)[1] if weights.startswith(HUB_PREFIX) else weights
    meta = _META.fullmatch(name.rpartition("/")[2])
    return meta_yaml(meta["version"], meta["size"]) if meta else None


def meta_yaml(version: str, size: str) -> str:
    """Return Meta's YAML of a version (sam2, sam2.1) and a size (tiny, small, base_plus, large)."""
    return f"configs/{version}/{version}_hiera_{_META_SIZES[size]}.yaml"


def sizes_of(config_path: str) -> tuple[int, int]:
    """Return `image_size` and `num_maskmem` of a network's YAML."""
    model = read_network(config_path)
    # The defaults are those of SAM 2's class, which a YAML may leave out.
    try:
        return int(model.get("image_size", 512)), int(model.get("num_maskmem", 7))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{config_path}: image_size and num_maskmem must be numbers: {error}") from error


def sam2_folder() -> Path:
    """Return the folder of the installed `sam2` package. Raises ConfigError without one."""
    try:
        import sam2
    except ImportError as error:
        raise ConfigError(
            "SAM 2 is not installed: `pip install 'sam2vt[sam2]'`, or install Meta's own repository"
        ) from error
    return Path(sam2.__path__[0])


def read_network(config_path: str) -> DictConfig:
    """Return the section `model` of a network's YAML, with interpolations of its own values at most.

    Raises ConfigError for a file that is no YAML, has no such section, or asks for resolvers.
    """
    path = network_yaml(config_path)
    if path.suffix == ".json":  # of transformers
        return network_of(read_config(path), read_network(TEMPLATE), str(path))
    try:
        check_extent(path.read_bytes())
        config = OmegaConf.load(path)
        plain = OmegaConf.to_container(config)
    except (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"model.config_path: {path} cannot be read as YAML: {error}") from error
    if not isinstance(plain, dict) or not isinstance(plain.get("model"), dict):
        raise ConfigError(f"model.config_path: {path} has no top-level key 'model' as SAM 2's YAML files do")
    for place, text in _texts(plain["model"], "model"):
        # Resolvers are functions: of OmegaConf, of Hydra, or of whoever has registered one.
        if "${" in text and ":" in text:
            raise ConfigError(
                f"{path}: {place} is {text!r}; allowed are values, and names such as ${{model.a}}"
            )
    top = plain["model"].get("_target_")
    if top not in (None, *_TOP):
        raise ConfigError(f"{path}: model._target_ is {top!r}; allowed are {', '.join(_TOP)}")
    return config.model


def checked_network(model: DictConfig, config_path: str) -> DictConfig:
    """Return {"model": `model`} with all interpolations replaced by their values.

    Raises ConfigError if it would call anything but the modules that `sam2.modeling` defines, or where
    an interpolation is left.
    """
    try:
        plain: Any = OmegaConf.to_container(OmegaConf.create({"model": model}), resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{config_path}: cannot be resolved: {error}") from error
    for place, number in _leaves(plain["model"], "model"):
        if _LAYERS.fullmatch(place) and isinstance(number, int) and number > _MOST_LAYERS:
            raise ConfigError(f"{config_path}: {place} is {number}; allowed are up to {_MOST_LAYERS} layers")
    for place, text in _texts(plain["model"], "model"):
        # It was escaped, and would be resolved when the network is built.
        if "${" in text:
            raise ConfigError(
                f"{config_path}: {place} is {text!r} when it is resolved; give the value itself"
            )
    _check_targets(plain["model"], "model", config_path)
    return OmegaConf.create(plain)


def _texts(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield (place, text) of every string of nested containers."""
    yield from ((name, each) for name, each in _leaves(node, place) if isinstance(each, str))


def _leaves(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield (place, value) of every value of nested containers that is none itself."""
    if not isinstance(node, (dict, list)):
        yield place, node
    for name, each in _children(node, place):
        yield from _leaves(each, name)


def _children(node: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        yield from ((f"{place}.{name}", each) for name, each in node.items())
    elif isinstance(node, list):
        yield from ((f"{place}[{number}]", each) for number, each in enumerate(node))


def _check_targets(node: Any, place: str, path: str) -> None:
    if isinstance(node, dict) and "_target_" in node and not _is_module_of_sam2(node["_target_"]):
        raise ConfigError(
            f"{path}: {place}._target_ is {node['_target_']!r}; allowed are the modules that sam2.modeling "
            f"defines, by the names of their own files, such as {NETWORK_CLASS}"
        )
    if isinstance(node, dict) and node.get("weights_path") is not None:
        raise ConfigError(f"{path}: {place}.weights_path loads a file; give it as model.checkpoint_path")
    for name, each in _children(node, place):
        _check_targets(each, name, path)


def _is_module_of_sam2(target: Any) -> bool:
    """Return whether a file of `sam2.modeling` defines a module of this name: not imports, not attributes."""
    if not isinstance(target, str) or not target.startswith("sam2.modeling."):
        return False
    file, _, name = target.rpartition(".")
    try:
        found = vars(importlib.import_module(file)).get(name)
    except ImportError:
        return False
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        return False
    return (found.__module__, found.__qualname__) == (file, name)
