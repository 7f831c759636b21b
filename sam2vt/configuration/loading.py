"""Read, check and write a whole configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sam2vt.config import Config
from sam2vt.configuration.conflicts import find_faults
from sam2vt.configuration.reading import plain, read, untuple
from sam2vt.errors import ConfigError

_CHECKED = "_checked"  # attribute of a configuration: its content when it was last found right


def load_config(mapping: Mapping[str, Any]) -> Config:
    """Return the checked configuration of a nested mapping or an OmegaConf `DictConfig`.

    Raises one `ConfigError` that lists every fault: unknown keys, wrong types, values that are not
    allowed, settings without effect, paths that do not exist.
    """
    given = {key: value for key, value in plain(mapping).items() if (key, value) != ("sweep", None)}
    faults = []
    if given.pop("sweep", None) is not None:
        faults.append("sweep: one run has no sweep; `ray_jobs/tune.py` takes it, with the same overrides")
    config, unreadable = read(Config, given)
    faults += [fault.text for fault in unreadable]
    unread = {name for fault in unreadable for name in fault.fields}
    # A field that could not be read holds its default, which says nothing about the others.
    faults += [fault.text for fault in find_faults(config) if unread.isdisjoint(fault.fields)]
    if faults:
        raise ConfigError.listing("the configuration", faults)
    setattr(config, _CHECKED, to_dict(config))
    return config


def validate(config: Config) -> None:
    """Raise one `ConfigError` that lists every fault: field, value and what is allowed.

    A configuration that `load_config` made, or that was validated, is checked again only if it changed:
    a check looks at files and packages.
    """
    content = to_dict(config)
    if getattr(config, _CHECKED, None) != content:
        load_config(content)
        setattr(config, _CHECKED, content)


def to_dict(config: Any) -> dict[str, Any]:
    """Return the configuration, or a part of it, as plain containers: for YAML, checkpoints and workers."""
    return untuple(asdict(config))


def from_dict(mapping: Mapping[str, Any]) -> Config:
    """Return the inverse of `to_dict`: keys and types are checked, values and paths are not.

    For a configuration that was validated before, perhaps on another machine.
    """
    config, faults = read(Config, mapping)
    if faults:
        raise ConfigError("\n".join(fault.text for fault in faults))
    return config
