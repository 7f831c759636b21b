"""Read the entries of `datasets`, several sets in place of one, into the settings of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import PurePath
from typing import Any, NamedTuple

from sam2vt.config import DatasetConfig
from sam2vt.configuration.names import unknown_key
from sam2vt.configuration.reading import Fault, read, untuple

_SHARES = ("name", "weight", "repeat")
# The same for all clips of a batch, or of the mixture as a whole.
_SHARED = (
    "datasets",
    "image_size",
    "video_clip_length",
    "batch_size",
    "num_workers",
    "shuffle",
    "clips_per_video",
    "feature_cache",
    "score_first_and_last",
)


class Member(NamedTuple):
    """One dataset of a mixture."""

    name: str
    settings: DatasetConfig  # what its entry does not say is that of the whole
    weight: float | None  # share of the clips of an epoch, in any unit; None: by its videos
    repeat: float  # how often an epoch visits each of its videos, without weights


def members(settings: DatasetConfig) -> list[Member]:
    """Return the datasets of a mixture that was checked."""
    return [_member(settings, entry, "")[0] for entry in settings.datasets]


def with_paths(settings: DatasetConfig, change: Any) -> list[dict[str, Any]]:
    """Return the entries with `change` applied to each of their paths."""
    paths = ("data_path", "image_root")
    return [
        {name: change(value) if name in paths else value for name, value in entry.items()}
        for entry in settings.datasets
    ]


def find_member_faults(settings: DatasetConfig, section: str) -> tuple[list[Member], list[Fault]]:
    """Return the members that can be read, and the faults of `<section>.datasets` on its own."""
    where, entries = f"{section}.datasets", settings.datasets
    if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in entries):
        text = "must be a list of mappings, such as [{data_path: a, weight: 3}, {data_path: b, weight: 1}]"
        return [], [Fault((where,), f"{where}={entries!r}: {text}")]
    found, faults = [], []
    for place, entry in enumerate(entries):
        member, own = _member(settings, entry, f"{where}[{place}].")
        faults += own
        if not own:
            found.append(member)
    if not faults:
        faults += _share_faults(found, entries, section)
    return found, faults


def _member(settings: DatasetConfig, entry: Mapping[str, Any], where: str) -> tuple[Member, list[Fault]]:
    allowed = [field.name for field in fields(settings) if field.name not in _SHARED]
    known = [*_SHARES, *allowed]
    faults = [
        Fault((f"{where}{key}",), unknown_key(f"{where}{key}", known)) for key in entry if key not in known
    ]
    own = {key: value for key, value in entry.items() if key in allowed}
    whole = untuple(asdict(settings))
    if isinstance(own.get("augment"), Mapping):
        own["augment"] = {**whole["augment"], **own["augment"]}
    merged, wrong = read(type(settings), {**whole, "datasets": [], "data_path": "", **own}, where)
    faults += wrong
    if not wrong and not merged.data_path:
        faults.append(Fault((f"{where}data_path",), f"{where}data_path: has to be given"))
    name = entry.get("name") or _short_name(merged.data_path)
    if not isinstance(name, str):
        faults.append(Fault((f"{where}name",), f"{where}name={name!r}: must be a string"))
    weight, repeat = entry.get("weight"), entry.get("repeat", 1.0)
    if weight is not None and not _is_number(weight, above=0):
        faults.append(Fault((f"{where}weight",), f"{where}weight={weight!r}: must be a number above 0"))
    if not _is_number(repeat, least=1):
        text = f"{where}repeat={repeat!r}: must be a number of at least 1; give another set more instead"
        faults.append(Fault((f"{where}repeat",), text))
    return Member(str(name), merged, weight, repeat), faults


def _share_faults(found: list[Member], entries: Any, section: str) -> list[Fault]:
    """Return the conflicts among the members."""
    where, texts = f"{section}.datasets", []
    names = [member.name for member in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        texts.append(f"two sets are called {', '.join(twice)}; give each a name of its own by name=")
    weighted = [member.name for member in found if member.weight is not None]
    if section == "valdataset" and (weighted or any(member.repeat != 1 for member in found)):
        texts.append("validation sees each video once; leave out weight and repeat")
    elif weighted and len(weighted) < len(found):
        without = ", ".join(name for name in names if name not in weighted)
        texts.append(f"{', '.join(weighted)} has a weight, {without} has none; give all sets one, or none")
    elif weighted and any("repeat" in entry for entry in entries):
        texts.append("weights say already how often a set is repeated; leave out repeat, or all weights")
    return [Fault((where,), f"{where}: {text}") for text in texts]


def _short_name(path: Any) -> str:
    return PurePath(str(path).rstrip("/")).stem


def _is_number(value: Any, *, above: float = -math.inf, least: float = -math.inf) -> bool:
    is_real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_real and math.isfinite(value) and value > above and value >= least
