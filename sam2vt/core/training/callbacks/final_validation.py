"""A validation of the weights that a run ends with, where its last step fell between two validations."""

from __future__ import annotations

from typing import Any

import lightning as L

from sam2vt.core.training.callbacks.first_validation import run_validation


class FinalValidation(L.Callback):
    """Runs the fit's own validation loop at the end of training, unless the last step was just validated.

    Its row, scores and pictures are then those of the final weights, and `best` may be they. Comes before
    the callbacks that report at the end of training.
    """

    def __init__(self) -> None:
        self._validated_step: int | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"validated_step": self._validated_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validated_step = state_dict["validated_step"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._validated_step = trainer.global_step

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.enable_validation and self._validated_step != trainer.global_step:
            run_validation(trainer)
