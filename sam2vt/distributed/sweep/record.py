"""The record of a sweep in its folder: what it was asked to do, and whether it can be resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ray import tune

from sam2vt.config import Config
from sam2vt.configuration.loading import to_dict
from sam2vt.configuration.sweep import Sweep
from sam2vt.distributed.cluster.storage import RunStorage
from sam2vt.errors import ConfigError

TUNE_FOLDER = "tune"  # what Ray Tune keeps of the sweep, to go on with it


RECORD = "sweep.json"  # what the sweep was asked to do


# May differ when a sweep is gone on with.
_FREE = ("ray.", "log_level", "output_dir", "save_dir", "resume", "sweep.max_concurrent", "sweep.keep_best")


def what_is_asked(sweep: Sweep, config: Config) -> dict[str, Any]:
    """By dotted name, all that makes a sweep this one."""
    settings = {f"sweep.{name}": value for name, value in to_dict(sweep.settings).items()}
    asked = {
        name: value
        for name, value in {**settings, **_flat(to_dict(config))}.items()
        if not name.startswith(_FREE)
    }
    return {**asked, "ray.num_workers": config.ray.max_workers}  # it fixes how many clips a step takes


def check_earlier(storage: RunStorage, config: Config, record: Mapping[str, Any]) -> bool:
    """Whether there is a sweep to go on with. Raises ConfigError where there is another one."""
    was = read_record(storage)
    if was is None:
        return False
    different = [
        f"{name} was {was.get(name)}, is {record.get(name)}"
        for name in sorted({**was, **record})
        if was.get(name) != json.loads(json.dumps(record.get(name)))
    ]
    if different:
        raise ConfigError(
            f"{storage.root} holds another sweep: {'; '.join(different)}. Give this one another "
            "output_dir or ray.name, or go on with that one by its own settings"
        )
    if config.resume != "auto":
        raise ConfigError(
            f"{storage.root} holds this sweep already; go on with it by resume=auto, or give another "
            "output_dir"
        )
    has_begun = bool(storage.folder(TUNE_FOLDER).has("tuner.pkl"))
    return has_begun and tune.Tuner.can_restore(storage.join(TUNE_FOLDER))


def read_record(storage: RunStorage) -> dict[str, Any] | None:
    """What the sweep in this storage was asked to do; None: there is none. Raises ConfigError."""
    where = storage.join(RECORD)
    try:
        folder = storage.folder()
        if not folder.has(RECORD):
            return None
        was = json.loads(folder.read(RECORD))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{where} cannot be read: {error}. Give a ray.storage_path (or output_dir) that can be reached; "
            "a sweep whose file is damaged cannot be gone on with: give another output_dir"
        ) from None
    if not isinstance(was, dict):
        raise ConfigError(f"{where} holds no sweep's settings; give another output_dir")
    return was


def write_record(storage: RunStorage, record: Mapping[str, Any]) -> None:
    """Write what the sweep was asked to do into its storage, at once or not at all."""
    storage.folder().write(RECORD, json.dumps(record, indent=1).encode())


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Sections one level deep by dotted names."""
    found: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping) and prefix == "":
            found.update(_flat(value, f"{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found
