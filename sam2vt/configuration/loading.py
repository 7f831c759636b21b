"""Read, check and write a whole configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sam2vt.config import Config
from sam2vt.configuration.conflicts import find_faults
from sam2vt.configuration.reading import plain, read, untuple
from sam2vt.errors import ConfigError


def load_config(mapping: Mapping[str, Any]) -> Config:
    """The configuration of a nested mapping or an OmegaConf `DictConfig`, checked.

    Raises one `ConfigError` that lists every fault: unknown keys, wrong types, values that are not
    allowed, settings without effect, paths that do not exist.
    """
    if mapping.get("sweep") is not None:
        raise ConfigError("sweep: one run has no sweep; `ray_jobs/tune.py` takes it, with the same overrides")
    config, faults = read(Config, plain(mapping))
    assert isinstance(config, Config)
    unread = {name for fault in faults for name in fault.fields}
    faults += [fault for fault in find_faults(config) if unread.isdisjoint(fault.fields)]
    if faults:
        lines = [f"  - {fault.text}" for fault in faults]
        number = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError("\n".join([f"the configuration has {number}:", *lines]))
    return config


def validate(config: Config) -> None:
    """Raise one `ConfigError` that lists every fault: field, value and what is allowed."""
    load_config(to_dict(config))


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration, or a part of it, as plain containers: for YAML, checkpoints and workers."""
    return untuple(asdict(config))


def from_dict(mapping: Mapping[str, Any]) -> Config:
    """The inverse of `to_dict`: keys and types are checked, values and paths are not.

    For a configuration that was validated before, perhaps on another machine.
    """
    config, faults = read(Config, mapping)
    if faults:
        raise ConfigError("\n".join(fault.text for fault in faults))
    assert isinstance(config, Config)
    return config
