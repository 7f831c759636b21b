"""Keep the record of a sweep in its folder: its settings, and the pickled state to resume from."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pickle import Unpickler, UnpicklingError
from typing import Any

from ray import cloudpickle, tune

from sam2vt.config import Config, SweepConfig
from sam2vt.configuration.loading import to_dict
from sam2vt.configuration.sweep import Sweep
from sam2vt.distributed.cluster.storage import RunStorage
from sam2vt.errors import ConfigError

TUNE_FOLDER = "tune"  # Ray Tune's state
TUNER = "tuner.pkl"  # in it: the settings of Tune, the searcher, the scheduler and the callbacks
RECORD = "sweep.json"  # the settings of the sweep
# Settings that may differ when a sweep is resumed.
_FREE = (
    *("ray.", "log_level", "style", "output_dir", "save_dir", "resume"),
    *("loggers", "use_wandb", "wandb_project", "mlflow_", "group", "log_checkpoint"),
    *("sweep.max_concurrent", "sweep.keep_best"),
)
# Module that a sweep's state may name -> module that has the same classes now.
_MOVED = {
    "sam2vt.configuration.space": "sam2vt.configuration.sweep_space",
    "sam2vt.configuration.sweeping": "sam2vt.configuration.sweep",
    "sam2vt.distributed.storage": "sam2vt.distributed.cluster.storage",
}
# All of this package that is pickled with a sweep.
_PICKLED = {
    "sam2vt.config": {"SweepConfig"},
    "sam2vt.configuration.sweep": {"BaseConfig", "Sweep"},
    "sam2vt.configuration.sweep_space": {"Dimension", "Space", "Space.draw"},
    "sam2vt.distributed.cluster.storage": {"RunStorage"},
    "sam2vt.distributed.sweep.launch": {"_name"},
    "sam2vt.distributed.sweep.schedule": {"Asha", "Clip", "Median", "Population"},
    "sam2vt.distributed.sweep.search": {"DefaultFirst"},
    "sam2vt.distributed.sweep.watch": {"Watch"},
}
# Packages whose objects Tune's and Optuna's state is made of. This keeps out what was pickled elsewhere;
# `trust` keeps out forged files, since Tune pickles functions too.
_STANDARD = {"builtins", "collections", "copyreg", "datetime", "functools", "types"}
_LIBRARIES = {*_STANDARD, "numpy", "optuna", "pyarrow", "ray"}
# What unpickling raises, depending on where the file is damaged.
_DAMAGE = (UnpicklingError, ImportError, AttributeError, EOFError, TypeError, LookupError, ValueError)


def what_is_asked(sweep: Sweep, config: Config) -> dict[str, Any]:
    """Return by dotted name all settings that identify a sweep."""
    workers = {"ray.num_workers": config.ray.max_workers}  # it fixes the clips per step
    return {**_settings(sweep.settings, config), **workers}


def check_earlier(storage: RunStorage, config: Config, record: Mapping[str, Any]) -> bool:
    """Return whether this sweep was begun in `storage` and has a state to resume from.

    Raises ConfigError if the storage contains another sweep, or this one without `resume` being given.
    """
    was = read_record(storage)
    if was is None:
        return False
    if different := list(_differences(was, record)):
        raise ConfigError(
            f"{storage.root} holds another sweep: {'; '.join(different)}. Give this one another "
            "output_dir or ray.name, or resume that one with its own settings"
        )
    if config.resume != "auto":
        raise ConfigError(
            f"{storage.root} holds this sweep already; resume it with resume=auto, or give another output_dir"
        )
    # `can_restore` is true of a folder that Tune has made and not written its state into.
    has_begun = bool(storage.folder(TUNE_FOLDER).has(TUNER))
    return has_begun and tune.Tuner.can_restore(storage.join(TUNE_FOLDER))


def read_record(storage: RunStorage) -> dict[str, Any] | None:
    """Return the settings of the sweep in this storage, None if there is no sweep. Raises ConfigError."""
    where = storage.join(RECORD)
    try:
        folder = storage.folder()
        if not folder.has(RECORD):
            return None
        was = json.loads(folder.read(RECORD))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{where} cannot be read: {error}. Give a ray.storage_path (or output_dir) that can be reached; "
            "a sweep whose file is damaged cannot be resumed: give another output_dir"
        ) from None
    if not isinstance(was, dict):
        raise ConfigError(f"{where} holds no sweep's settings; give another output_dir")
    return was


def write_record(storage: RunStorage, record: Mapping[str, Any]) -> None:
    """Write the settings completely or not at all."""
    storage.folder().write(RECORD, json.dumps(record, indent=1).encode())


def renew_state(storage: RunStorage) -> None:
    """Rewrite the state that Tune itself unpickles if it names modules that have moved.

    Raises ConfigError if it contains anything that this version of the package does not know.
    """
    folder = storage.folder(TUNE_FOLDER)
    reader = StateReader(folder.read(TUNER), folder.address(TUNER))
    state = reader.load()
    if reader.moved:
        folder.write(TUNER, cloudpickle.dumps(state))


class StateReader(Unpickler):
    """Reads the state of a sweep that this package or an earlier version has pickled."""

    def __init__(self, content: bytes, where: str) -> None:
        super().__init__(io.BytesIO(content))
        self.where = where
        self.moved = False  # whether it named a module that has moved

    def load(self) -> Any:
        """Return the state. Raises ConfigError if it is unknown, damaged, or from other packages."""
        try:
            return super().load()
        except _DAMAGE as error:
            raise ConfigError(
                f"{self.where}: the state of the sweep cannot be read ({error}). Resume it with the versions "
                "of sam2vt, Ray and Optuna that it was begun with, or begin it anew in another output_dir"
            ) from error

    def find_class(self, module: str, name: str) -> Any:
        """Return a class or function by its name, where it is defined now."""
        present = _MOVED.get(module, module)
        self.moved = self.moved or present != module
        if name not in _PICKLED.get(present, ()) and present.partition(".")[0] not in _LIBRARIES:
            raise UnpicklingError(f"it holds {module}.{name}, which is unknown here")
        return super().find_class(present, name)


def _settings(sweep: SweepConfig, config: Config) -> dict[str, Any]:
    """Return all settings that a resumed sweep must share, by dotted name."""
    own = {f"sweep.{name}": value for name, value in to_dict(sweep).items()}
    asked = {**own, **_flat(to_dict(config))}
    return {name: value for name, value in asked.items() if not name.startswith(_FREE)}


def _differences(was: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the settings that differ from the sweep that was begun.

    A setting that a later version has added must be at its default; one that it has removed is left aside.
    """
    defaults = _settings(SweepConfig(), Config())
    for name, value in sorted(record.items()):
        before = was.get(name, defaults.get(name))
        if before != json.loads(json.dumps(value)):
            yield f"{name} was {before}, is {value}"


def _flat(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of sections, one level deep, by dotted names."""
    found: dict[str, Any] = {}
    for key, value in mapping.items():
        is_section = isinstance(value, Mapping)
        found.update({f"{key}.{name}": each for name, each in value.items()} if is_section else {key: value})
    return found
