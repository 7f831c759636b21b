"""Read the entries of `datasets`, several sets instead of one, into the settings of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import PurePath
from typing import Any, NamedTuple

from sam2vt.configuration.reading import Fault, read, unknown_keys, untuple, wrong_type
from sam2vt.data_config import DatasetConfig
from sam2vt.settings import is_number, settings_of

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


def with_paths(section: Any, change: Callable[[Any], Any]) -> Any:
    """Return a section of settings with `change` applied to each input path, including those of sets."""
    paths = [name for name, each in settings_of(section).items() if "input" in each.path]
    replaced = {name: change(getattr(section, name)) for name in paths}
    if isinstance(section, DatasetConfig):
        replaced |= with_entry_paths(type(section), {"datasets": section.datasets}, change)
    return replace(section, **replaced)


def with_entry_paths(kind: type, entry: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the settings in `entry`, some of a section `kind`, with `change` applied to each input path."""
    paths = [name for name, each in settings_of(kind).items() if "input" in each.path]
    changed = {name: change(value) if name in paths else value for name, value in entry.items()}
    if "datasets" in entry:
        changed["datasets"] = [with_entry_paths(kind, each, change) for each in entry["datasets"]]
    return changed


def find_member_faults(settings: DatasetConfig, section: str) -> tuple[list[Member], list[Fault]]:
    """Return the members that can be read, and the faults of `<section>.datasets` alone."""
    where, entries = f"{section}.datasets", settings.datasets
    if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in entries):
        text = "a list of mappings, such as [{data_path: a, weight: 3}, {data_path: b, weight: 1}]"
        return [], [wrong_type(where, entries, text)]
    read_entries = [_member(settings, entry, f"{where}[{place}].") for place, entry in enumerate(entries)]
    found = [member for member, own in read_entries if not own]
    faults = [fault for _, own in read_entries for fault in own]
    return found, faults or _share_faults(found, entries, section)


def _member(settings: DatasetConfig, entry: Mapping[str, Any], where: str) -> tuple[Member, list[Fault]]:
    allowed = [field.name for field in fields(settings) if field.name not in _SHARED]
    faults = unknown_keys(entry, [*_SHARES, *allowed], where)
    own = {key: value for key, value in entry.items() if key in allowed}
    whole = untuple(asdict(settings))
    if isinstance(own.get("augment"), Mapping):
        own["augment"] = {**whole["augment"], **own["augment"]}
    # "???" is what has to be given: the whole has no path of its own where it has several sets.
    path = own.get("data_path") or "???"
    merged, wrong = read(type(settings), {**whole, **own, "datasets": [], "data_path": path}, where)
    name = entry.get("name") or PurePath(merged.data_path.rstrip("/")).stem
    weight, repeat = entry.get("weight"), entry.get("repeat", 1.0)
    checks = (
        ("name", name, isinstance(name, str), "a string"),
        ("weight", weight, weight is None or (is_number(weight) and weight > 0), "a number above 0"),
        ("repeat", repeat, is_number(repeat) and repeat >= 1, "a number of at least 1; give others more"),
    )
    faults += [wrong_type(where + key, value, text) for key, value, fits, text in checks if not fits]
    return Member(str(name), merged, weight, repeat), faults + wrong


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
