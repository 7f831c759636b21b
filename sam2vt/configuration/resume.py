"""Compare the configuration of a resumed run with that of the run that wrote its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sam2vt.config import DatasetConfig
from sam2vt.settings import settings_of, show

# The same data may have been moved.
_PATHS = [name for name, each in settings_of(DatasetConfig).items() if "input" in each.path]
_PLACES = (*_PATHS, "allow_absolute_paths")
# Further validation sets may come and go, but a set with scores before the resume stays what it was.
# Of the data only how clips are drawn. How many clips steps and epochs have is compared with the position
# in them. A feature cache holds the same features, but for rounding.
_FREE_OF_DATA = (*_PLACES, "datasets", "num_workers", "batch_size", "feature_cache")
# All fields of these sections change the result but for those named here.
_FREE: dict[str, tuple[str, ...]] = {
    "model": (
        "checkpoint_path",  # its weights are compared by their sha256
        "device",
        "max_objects",  # the root's says the same
        "recompute",  # the same gradients, but for rounding
        "speedups",  # equal results, but for rounding and other draws of the same dropout
        "trainable_modules",  # compared without their order
    ),
    "dataset": _FREE_OF_DATA,
    "valdataset": _FREE_OF_DATA,
    "loss": (),
    "optimizer": (),
    "scheduler": (),
}
# Of the other sections these change the result.
_COMPARED = (
    "trainer.precision",
    "trainer.gradient_clip_val",
    "trainer.accumulate_grad_batches",
    "trainer.limit_train_batches",
    "trainer.limit_val_batches",  # scores of other videos cannot be compared
    "max_objects",
    "seed",
    "split",
    "val_fraction",
)
# Groups of settings within a section, to which a new version may have added some.
_GROUPS = ("augment", "ema", "lora")
_ENDS = ("trainer.max_epochs", "trainer.max_steps")
_INPUTS = [f"{section}.{name}" for section in ("dataset", "valdataset") for name in _PATHS]


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return why a run with the configuration `now` cannot resume one with `was`: field, old and new value.

    Both come from `to_dict`. Every field that changes weights or scores is compared, unless `was` is from an
    older version that lacks it. Folders, devices, data-loader workers, logging, intervals of validation and
    checkpoints, and the end of the run may differ: see `remarks`.
    """
    fields = [
        f"{section}.{name}" for section, free in _FREE.items() for name in now[section] if name not in free
    ]
    found = _changed([*fields, *_COMPARED], was, now)
    found += _changed(["dataset.datasets", "valdataset.datasets"], was, now, _without_places)
    found += _changed_sets(was, now)
    return found + _changed(["model.trainable_modules"], was, now, sorted)


def remarks(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences that are allowed but that the user should know.

    A cosine without `scheduler.T_max` ends with the run. If the end changes, then from the resumed step on
    the learning rate follows the curve of a run that had the new length from the start.
    """
    scheduler = now["scheduler"]
    follows = scheduler["enabled"] and scheduler["type"] == "cosine" and scheduler["T_max"] is None
    ends = _changed(_ENDS, was, now) if follows else []
    curve = "the cosine, whose scheduler.T_max is null, now ends there, so the learning rate jumps to it"
    found = [f"{line}: {curve}; set scheduler.T_max to the old number of steps to keep it" for line in ends]
    rounded = _changed(["dataset.feature_cache"], was, now, lambda place: place is None)
    found += [f"{line}: from here on features are rounded otherwise (a cache's to bf16)" for line in rounded]
    before, after = _sets(was), _sets(now)
    own = [
        f"valdatasets.{name}.{key}"
        for name, entry in now["valdatasets"].items()
        for key in _PATHS
        if key in entry and f"valdatasets.{name}" in before
    ]
    moved = _changed(_INPUTS, was, now) + _changed(own, before, after)
    return found + [f"{line}: must hold the same data" for line in moved]


def _changed(
    fields: Sequence[str],
    was: Mapping[str, Any],
    now: Mapping[str, Any],
    key: Callable[[Any], Any] = lambda value: value,
) -> list[str]:
    """Return a line for each field whose `key` differs."""
    lines = []
    for field in fields:
        section, _, name = field.rpartition(".")
        before, after = (was.get(section, {}), now[section]) if section else (was, now)
        if name not in before or key(before[name]) == key(after[name]):
            continue
        if name in _GROUPS:
            lines += [f"{field}.{line}" for line in _changed(list(after[name]), before[name], after[name])]
        else:
            lines.append(f"{field} was {show(before[name])}, is {show(after[name])}")
    return lines


def _changed_sets(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each setting that differs of a further validation set that both have."""
    before, after = _sets(was), _sets(now)
    shared = [name for name in after if name in before]
    fields = [f"{name}.{key}" for name in shared for key in after[name] if key not in _FREE_OF_DATA]
    mixtures = [f"{name}.datasets" for name in shared]
    return _changed(fields, before, after) + _changed(mixtures, before, after, _without_places)


def _sets(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings of the further validation sets, by the name of their section."""
    entries = config.get("valdatasets", {})  # older versions have none
    return {f"valdatasets.{name}": {**config["valdataset"], **entry} for name, entry in entries.items()}


def _without_places(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sets of a mixture without their paths: they may have been moved."""
    return [{name: value for name, value in each.items() if name not in _PLACES} for each in entries]
