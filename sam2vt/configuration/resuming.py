"""What a run that goes on from a checkpoint must have in common with the run that wrote it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Fields of `model` that leave the network, what trains and the optimizer's state as they are.
_FREE_IN_MODEL = (
    "checkpoint_path",  # a resumed run has its weights from the checkpoint
    "device",
    "max_objects",
    "trainable_modules",  # compared without their order
    "num_correction_clicks",
    "correction_from_gt",
    "bptt_frames",
    "presence_from_gt",
)
# The optimizer goes on with its checkpoint's numbers.
_OVERRULED = ("lr", "weight_decay", "betas", "eps")
_RATES = ("optimizer.lr", "optimizer.encoder_lr", "optimizer.layer_decay")
# At 0 the first leaves parameter groups out, the others freeze the head that they train.
_SWITCHES = ("optimizer.weight_decay", "loss.presence_weight", "loss.iou_head_weight")


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Why a run of the configuration `now` cannot go on from one of `was`; each names field, was, is.

    Both as `to_dict` gives them. Fields that `was` lacks, from an older version, are not compared.
    """
    fields = [f"model.{name}" for name in now["model"] if name not in _FREE_IN_MODEL]
    fields.append("optimizer.type")
    if any(_has_rates_of_its_own(each.get("optimizer", {})) for each in (was, now)):
        fields += _RATES  # parameters are in groups by their rates, the fastest first
    found = _changed(fields, was, now) + _changed(["model.trainable_modules"], was, now, sorted)
    return found + _changed(_SWITCHES, was, now, lambda value: value > 0)


def overruled(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The optimizer's numbers that changed without effect, since the optimizer goes on with the old ones."""
    return _changed([f"optimizer.{name}" for name in _OVERRULED], was, now)


def _has_rates_of_its_own(optimizer: Mapping[str, Any]) -> bool:
    return optimizer.get("encoder_lr") is not None or optimizer.get("layer_decay", 1.0) != 1.0


def _changed(
    fields: Sequence[str],
    was: Mapping[str, Any],
    now: Mapping[str, Any],
    key: Callable[[Any], Any] = lambda value: value,
) -> list[str]:
    """A line for each field whose `key` differs."""
    lines = []
    for field in fields:
        section, name = field.split(".")
        old, new = was.get(section, {}), now[section][name]
        if name in old and key(old[name]) != key(new):
            lines.append(f"{field} was {_show(old[name])}, is {_show(new)}")
    return lines


def _show(value: Any) -> str:
    return "null" if value is None else str(value)
