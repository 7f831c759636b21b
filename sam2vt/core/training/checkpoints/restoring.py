"""Restore a run from a checkpoint through Lightning, with its own learning rates or new ones."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from sam2vt.config import Config, OptimizerConfig
from sam2vt.configuration.loading import to_dict
from sam2vt.core.storage.fetching import expand_user
from sam2vt.core.training.optim import parameter_groups

# The key that marks a checkpoint whose learning rates are another configuration's; files hold it.
TAKEN_OVER = "inherited"


def resume_kwargs(
    path: str | None, trainer: L.Trainer, content: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the arguments of `Trainer.fit` that resume from a checkpoint file; none without a path.

    `content` is that of the file, if it was read before. Lightning takes it and empties it, so that the
    optimizer's state is not in memory twice.
    """
    if path is None:
        return {}
    if content is not None:
        trainer.strategy.checkpoint_io = AlreadyRead(content)
    known = inspect.signature(trainer.fit).parameters  # older Lightning has no weights_only
    return {"ckpt_path": expand_user(path), **({"weights_only": True} if "weights_only" in known else {})}


class AlreadyRead(TorchCheckpointIO):
    """Returns the given content at the first load, and reads files from then on."""

    def __init__(self, content: dict[str, Any]) -> None:
        super().__init__()
        self._content = content

    def load_checkpoint(self, path: Any, *arguments: Any, **named: Any) -> dict[str, Any]:
        """Return the given content once, then that of the file at `path`."""
        if not self._content:
            return super().load_checkpoint(path, *arguments, **named)
        content = dict(self._content)
        self._content.clear()
        return content


def taken_over(checkpoint: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Return the checkpoint of one run in a form from which another run, with `config`, resumes.

    Weights, moments, counters and position stay those of the first run. From the next step on, learning
    rates, weight decay and loss weights are those of `config`.
    """
    known = {**checkpoint["hyper_parameters"], "config": to_dict(config)}
    return {**checkpoint, "hyper_parameters": known, TAKEN_OVER: True}


def follow_settings(checkpoint: dict[str, Any], network: nn.Module, config: OptimizerConfig) -> None:
    """Set the rates of `config` in optimizer and schedule of a checkpoint that was taken over, in place.

    Other checkpoints stay as they are.
    """
    if not checkpoint.pop(TAKEN_OVER, False):
        return
    rates = []
    groups = checkpoint["optimizer_states"][0]["param_groups"]
    for saved, group in zip(groups, parameter_groups(network, config)):
        # Where a schedule has changed the rate, the saved group holds the rate before it too.
        was = saved.get("initial_lr", saved["lr"])
        saved["lr"] *= group["lr"] / was
        saved["weight_decay"] = group["weight_decay"]
        if "initial_lr" in saved:
            saved["initial_lr"] = group["lr"]
        rates.append((was, group["lr"]))
    for schedule in checkpoint["lr_schedulers"]:
        schedule["base_lrs"] = [now for _, now in rates]
        schedule["_last_lr"] = [last * now / was for last, (was, now) in zip(schedule["_last_lr"], rates)]
