"""Look up a setting by its dotted name, or find the one that a misspelt name means."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from difflib import SequenceMatcher, get_close_matches
from typing import Any, Union, get_args, get_origin

from sam2vt.config import Config, SweepConfig, ValDatasetConfig
from sam2vt.settings import types_of, walk


@functools.cache
def setting_names() -> tuple[str, ...]:
    """Return the dotted names of all settings, those of a sweep last."""
    return tuple(name for name, _, _ in [*walk(Config), *walk(SweepConfig, "sweep.")])


def type_of(name: str) -> Any:
    """Return the type of a setting, or the dataclass of a group of settings; the root for no name.

    Below a mapping any key is allowed, as in `ray.worker_resources.trainer_slot`. None for an unknown
    setting.
    """
    kind: Any = Config
    parts = name.split(".") if name else []
    if len(parts) > 1 and parts[0] == "valdatasets":  # by names of the user's own
        kind, parts = ValDatasetConfig, parts[2:]
    for part in parts:
        if kind is Config and part == "sweep":
            kind = SweepConfig
        elif is_dataclass(kind):
            kind = types_of(kind).get(part)
        else:  # whatever is in a mapping may itself be one
            kind = dict[str, Any] if "dict" in str(kind).lower() else None
    return kind


def is_text(name: str) -> bool:
    """Return whether a setting is a text, perhaps null."""
    kind = type_of(name)
    return kind is str or (get_origin(kind) is Union and str in get_args(kind))


def unknown_name(name: str) -> str | None:
    """Return the fault of an unknown name, with what it may mean; None for a known one."""
    if type_of(name) is not None:
        odd = re.search(r"[^\w.@:$-]", name)  # in a key of a mapping: Hydra's grammar takes no more
        return f"{name}: {odd[0]!r} cannot be part of a name; letters, digits, _ and - can" if odd else None
    known = name
    while (kind := type_of(known)) is None:  # from the end to the first part that is wrong
        known = known.rpartition(".")[0]
    if is_dataclass(kind):
        return unknown_key(name, list(types_of(kind)))
    return f"{unknown_key(name, [])}; {known} is one value and given as a whole"


def unknown_key(name: str, beside: Sequence[str]) -> str:
    """Return the fault of an unknown `name`; `beside` are the allowed keys."""
    meant = nearest(name, beside)
    guess = f", did you mean {meant}?" if meant else ""
    allowed = f"; allowed here: {', '.join(beside)}" if beside else ""
    return f"{name}: unknown key{guess}{allowed}"


def nearest(name: str, beside: Sequence[str] = ()) -> str | None:
    """Return the setting, or the key `beside` it, that `name` most likely means; None for no idea."""
    parent, _, last = name.rpartition(".")
    # A right name at the wrong level is more likely than a slip of the pen; its own section comes first.
    same = [each for each in setting_names() if each.rpartition(".")[2] == last]
    section = name.partition(".")[0]
    same.sort(
        key=lambda each: (each.partition(".")[0] != section, -SequenceMatcher(None, name, each).ratio())
    )
    close = [f"{parent}.{each}".lstrip(".") for each in get_close_matches(last, beside, n=1)]
    whole = get_close_matches(name, setting_names(), n=1, cutoff=0.7)
    # reversed: of equal last parts the first setting is meant, dataset's before valdataset's.
    ends = {each.rpartition(".")[2]: each for each in reversed(setting_names())}
    elsewhere = [ends[each] for each in get_close_matches(last, ends, n=1, cutoff=0.7)]
    return next(iter([*same, *close, *whole, *elsewhere]), None)
