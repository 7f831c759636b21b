"""A run that takes over another one's weights and goes on with its own settings.

Weights, moments, counters and the position in the clips are the other run's; learning rates, weight decay
and loss weights are those of the new configuration from the next step on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from sam2vt.config import Config, OptimizerConfig
from sam2vt.configuration.loading import to_dict
from sam2vt.core.training.optim import parameter_groups

INHERITED = "inherited"  # marks a checkpoint whose learning rates are those of another configuration


def inherit(checkpoint: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """A run's checkpoint as one that a run of `config` goes on from."""
    known = {**checkpoint["hyper_parameters"], "config": to_dict(config)}
    return {**checkpoint, "hyper_parameters": known, INHERITED: True}


def follow_settings(checkpoint: dict[str, Any], network: nn.Module, config: OptimizerConfig) -> None:
    """Give the optimizer and the schedule of an inherited checkpoint the rates of `config`, in place.

    Other checkpoints stay as they are.
    """
    if not checkpoint.pop(INHERITED, False):
        return
    rates = []
    for saved, group in zip(_groups(checkpoint), parameter_groups(network, config)):
        was = saved.get("initial_lr", saved["lr"])
        saved["lr"] *= group["lr"] / was
        saved["weight_decay"] = group["weight_decay"]
        if "initial_lr" in saved:
            saved["initial_lr"] = group["lr"]
        rates.append((was, group["lr"]))
    for schedule in checkpoint["lr_schedulers"]:
        schedule["base_lrs"] = [now for _, now in rates]
        schedule["_last_lr"] = [last * now / was for last, (was, now) in zip(schedule["_last_lr"], rates)]


def _groups(checkpoint: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    return checkpoint["optimizer_states"][0]["param_groups"]
