"""Read, check and write a whole configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from sam2vt.config import Config
from sam2vt.configuration.conflicts import find_faults
from sam2vt.configuration.reading import plain, read, untuple
from sam2vt.errors import ConfigError
from sam2vt.settings import settle, show, walk

_CHECKED = "_checked"  # attribute of a configuration: its content when it was last found right


def load_config(mapping: Mapping[str, Any]) -> Config:
    """Return the checked configuration of a nested mapping or an OmegaConf `DictConfig`.

    Raises one `ConfigError` that lists every fault: unknown keys, wrong types, values that are not
    allowed, settings without effect, paths that do not exist.
    """
    given, faults = untuple(plain(mapping)), []
    if not isinstance(given, Mapping):
        raise ConfigError(f"config={show(given)}: must be a mapping of settings, such as {{max_objects: 5}}")
    given = dict(given)
    if given.pop("sweep", None) is not None:
        faults += ["sweep: one run has no sweep; `ray_jobs/tune.py` takes it, with the same overrides"]
    config, unreadable = read(Config, given)
    faults += [fault.text for fault in unreadable]
    # A field that could not be read holds its default, which says nothing about the others.
    unread = {name for fault in unreadable for name in fault.fields}
    faults += [fault.text for fault in find_faults(config) if unread.isdisjoint(fault.fields)]
    if faults:
        raise ConfigError.listing("the configuration", faults)
    # They agree, so that each follows where `dataclasses.replace` changes what it repeats.
    settle(config.model, "max_objects")
    for section in (config.model, config.dataset, config.valdataset):
        settle(section, "image_size")
    setattr(config, _CHECKED, to_dict(config))
    return config


def validate(config: Config | Mapping[str, Any]) -> Config:
    """Return the checked configuration, which may be a nested mapping; see `load_config`.

    Raises one `ConfigError` that lists every fault. A configuration that `load_config` made, or that was
    validated, is checked again only if it changed: a check looks at files and packages.
    """
    if not isinstance(config, Config):
        return load_config(config)
    for _, owner, name in walk(config):  # a program may give paths as such
        if isinstance(getattr(owner, name), PurePath):
            setattr(owner, name, str(getattr(owner, name)))
    content = to_dict(config)
    if getattr(config, _CHECKED, None) != content:
        load_config(content)
        setattr(config, _CHECKED, content)
    return config


def to_dict(config: Any) -> dict[str, Any]:
    """Return the configuration, or a part of it, as plain containers: for YAML, checkpoints and workers."""
    return untuple(asdict(config))


def from_dict(mapping: Mapping[str, Any]) -> Config:
    """Return the configuration of a `to_dict`: keys and types are checked, values and paths are not.

    Use it for a configuration that was validated before, perhaps on another machine.
    """
    config, faults = read(Config, untuple(mapping))
    if faults:
        raise ConfigError.listing("the configuration", [fault.text for fault in faults])
    return config
