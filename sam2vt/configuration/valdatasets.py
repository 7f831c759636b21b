"""Read the entries of `valdatasets`, further validation sets, each as the only one of a configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from sam2vt.config import Config, LossConfig, ValDatasetConfig
from sam2vt.configuration.mixture import with_entry_paths
from sam2vt.configuration.reading import Fault, read, untuple
from sam2vt.errors import ConfigError, DataError

_DATA = ("data_path", "datasets")  # a set that names one of them has data of its own
# A setting of the training set in a message of whoever reads a dataset, which is not a part of a path.
_OF_TRAINING = re.compile(r"(?<![\w./\\-])dataset\.(?=[a-z_]+(=| \())")
# What `val/` is followed by in the names of metrics, besides the terms of the loss.
_METRICS = ("loss", "j", "f", "j_hold_first", "f_hold_first", "swap_rate", "presence_accuracy")


def alone(config: Config, name: str) -> Config:
    """Return the configuration with the further set `name` in place of `valdataset`, and no other sets.

    What holds for `valdataset` can be asked of it. Messages then name `valdataset`: see `naming`.
    """
    return _alone(config, name)[0]


def each_alone(config: Config) -> dict[str, Config]:
    """Return `alone` of every further set, by name."""
    return {name: alone(config, name) for name in config.valdatasets}


def find_set_faults(config: Config, check: Callable[[Config], list[Fault]]) -> Iterator[Fault]:
    """Yield the faults of the further sets: of names, of keys and types, and those that `check` finds.

    `check` gets the configuration with a set as its only one. What it says of `valdataset` is yielded with
    the set's name, unless it is wrong with `valdataset` itself.
    """
    if not config.valdatasets:
        return
    taken = {*_METRICS, *(name.removesuffix("_weight") for name in LossConfig.weights())}
    inherited = {fault.text for fault in check(replace(config, valdatasets={}))}
    seen: dict[str, str] = {}
    for name, entry in config.valdatasets.items():
        where, same = f"valdatasets.{name}", seen.setdefault(name.lower(), name)
        if name.lower() in taken:
            yield Fault((where,), f"{where}: val/{name} is a metric already; give the set another name")
        if same != name:
            text = f"and valdatasets.{same} differ in case alone, as files of some systems do not"
            yield Fault((where,), f"{where} {text}; give one of them another name")
        empty = [key for key in _DATA if key in entry and not entry[key]]
        if empty:
            text = "is empty; leave it out for the videos of valdataset"
            yield Fault((where,), f"{where}.{empty[0]}: {text}")
        only, faults = _alone(config, name)
        yield from faults
        for fault in check(only):
            if fault.text not in inherited and any(each.startswith("valdataset.") for each in fault.fields):
                yield Fault(tuple(renamed(each, name) for each in fault.fields), renamed(fault.text, name))


def with_set_paths(sets: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the value of `valdatasets` with `change` applied to each input path."""
    return {name: with_entry_paths(ValDatasetConfig, entry, change) for name, entry in sets.items()}


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Make the errors of the block name the set instead of `valdataset`; "" changes nothing."""
    try:
        yield
    except (ConfigError, DataError) as error:
        if name:
            text, where = renamed(of_validation(str(error)), name), f"valdatasets.{name}"
            raise type(error)(text if where in text else f"{where}: {text}") from error
        raise


def of_validation(text: str) -> str:
    """Return a message about a dataset with the settings of `valdataset` for those of `dataset`."""
    return _OF_TRAINING.sub("valdataset.", text)


def renamed(text: str, name: str) -> str:
    """Return a text with the set's name for `valdataset`."""
    # Not in paths, where a folder may have that name.
    return re.sub(r"(?<![\w./\\-])valdataset(?![\w/\\-])", f"valdatasets.{name}", text)


def _alone(config: Config, name: str) -> tuple[Config, list[Fault]]:
    whole, entry = untuple(asdict(config.valdataset)), untuple(config.valdatasets[name])
    has_data = any(key in entry for key in _DATA)
    if has_data:
        whole |= {"data_path": "", "datasets": []}
    settings, faults = read(ValDatasetConfig, {**whole, **entry}, f"valdatasets.{name}.")
    size = config.valdataset.image_size
    if settings.image_size != size:  # the network has one; another here could change that of the model
        text = f"must be {list(size)}, as that of the model; leave it out"
        faults.append(Fault((f"valdatasets.{name}.image_size",), f"valdatasets.{name}.image_size: {text}"))
        settings.image_size = size
    # `split` divides the training data, of which a set with its own has none.
    split = "none" if has_data else config.split
    return replace(config, valdataset=settings, valdatasets={}, split=split), faults
