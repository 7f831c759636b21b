"""The exponential moving average of the weights that train: what is validated, stored and left at the end."""

from __future__ import annotations

import logging
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

log = logging.getLogger(__name__)

TRAINED = "trained_weights"  # a checkpoint's key of the weights that train, by name


class AverageWeights(L.Callback):
    """Averages the parameters that train; validations, checkpoints and the end of the fit get the average.

    The average begins with the weights after step `start_step`; from then on each step moves it towards the
    new weights by 1 - `decay` of the distance. Frozen parameters and buffers are shared, not copied.

    The module holds the average or the weights that train, and this callback the other of the two. They
    change places without a copy. The `state_dict` of a checkpoint is the average, so that whatever reads a
    checkpoint gets it; the weights that train are in it under `TRAINED`. Before the average begins it is the
    weights themselves.
    """

    def __init__(self, decay: float, start_step: int = 0) -> None:
        self.decay, self.start_step = decay, start_step
        self._move = get_ema_multi_avg_fn(decay)
        self._module: L.LightningModule | None = None
        self._trained: dict[str, nn.Parameter] = {}
        self._held: list[Tensor] = []  # what the module does not hold, in the order of `_trained`
        self._shows_average = False
        self._step = -1  # the last one in the average

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Take over the weights that train; Lightning has put the average into the module."""
        self._begin(pl_module)
        if TRAINED in checkpoint:
            self._held = [checkpoint[TRAINED][name] for name in self._trained]
            self._shows_average, self._step = True, checkpoint["global_step"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let the module hold the weights that train, on its device."""
        if self._module is not pl_module:
            self._begin(pl_module)
        self._held = [held.to(weight.device) for held, weight in zip(self._held, self._trained.values())]
        self._show_average(False)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin, and log a warning if the run is too short for the average to follow the weights."""
        self._include(trainer)
        averaged, needed = trainer.estimated_stepping_batches - self.start_step, 1 / (1 - self.decay)
        if averaged < needed and trainer.is_global_zero:
            log.warning(
                "model.ema.decay=%s averages about %.0f steps, and %.0f steps come after "
                "model.ema.start_step=%d: the average stays close to where it begins; lower one of them",
                *(self.decay, needed, max(averaged, 0), self.start_step),
            )

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Include the weights of a step."""
        self._include(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate the average."""
        if trainer.state.fn == "fit":
            self._show_average(True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Train on."""
        if trainer.state.fn == "fit":
            self._show_average(False)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the average in the module."""
        self._show_average(True)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Store the average as the run's weights, and beside it the weights that train."""
        self._include(trainer)  # another callback may save between a step and this callback's turn
        if not self._held:
            return
        state, held = checkpoint["state_dict"], dict(zip(self._trained, self._held))
        checkpoint[TRAINED] = held if self._shows_average else {name: state[name] for name in held}
        state.update({} if self._shows_average else held)

    def _begin(self, module: L.LightningModule) -> None:
        self._module, self._held, self._shows_average, self._step = module, [], False, -1
        self._trained = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}

    @torch.no_grad()
    def _include(self, trainer: L.Trainer) -> None:
        """Move the average, once per step."""
        step = trainer.global_step
        if step < self.start_step or step == self._step:
            return
        weights, self._step = list(self._trained.values()), step
        if self._held:
            self._move(self._held, weights, None)  # type: ignore[arg-type]
        else:
            self._held = [weight.detach().clone() for weight in weights]

    def _show_average(self, wanted: bool) -> None:
        if not self._held or wanted == self._shows_average:
            return
        self._shows_average = wanted
        for place, weight in enumerate(self._trained.values()):
            # Only storages change places: optimizer, DDP and compiled code know the parameters.
            weight.data, self._held[place] = self._held[place], weight.data
