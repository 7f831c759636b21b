"""Validation of the weights that a run ends with."""

from __future__ import annotations

from typing import Any

import lightning as L

from sam2vt.core.training.callbacks.first_validation import run_validation


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
            run_validation(trainer)
