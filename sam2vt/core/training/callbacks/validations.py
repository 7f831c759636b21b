"""Validations outside the epochs: of the model before any step, and of the weights that a run ends with."""

from __future__ import annotations

from typing import Any

import lightning as L


class FirstValidation(L.Callback):
    """Runs the fit's own validation loop once before the first step; not when a run is resumed.

    Unlike Lightning's sanity check this is a whole validation: its metrics are logged, and early stopping
    counts from it.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate, if nothing was trained yet."""
        if not trainer.global_step and trainer.enable_validation:
            _run_validation(trainer)


class FinalValidation(L.Callback):
    """Runs the fit's own validation loop at the end of training, unless the last step was just validated.

    The last row, scores and pictures are then those of the final weights, which may also be the best.
    """

    def __init__(self) -> None:
        self._validated_step: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the step validated last."""
        return {"validated_step": self._validated_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the step validated last: a run resumed at its end validates once, not twice."""
        self._validated_step = state_dict["validated_step"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the step."""
        if not trainer.sanity_checking:
            self._validated_step = trainer.global_step

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate, unless the last step was."""
        if trainer.enable_validation and self._validated_step != trainer.global_step:
            _run_validation(trainer)


def _run_validation(trainer: L.Trainer) -> None:
    """Run a whole validation of a fit, outside its epochs; every rank must take part."""
    # Lightning has no public way: `trainer.validate` would end the fit's own loops and loaders.
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True
