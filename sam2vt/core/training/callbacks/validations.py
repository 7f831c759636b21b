"""Validations before any step and of the final weights, and the end of a run whose scores do not rise."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping

from sam2vt.core.evaluation.jf import MONITOR
from sam2vt.core.training.checkpoints.position import batches_since_step


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
    Batches between two updates leave the weights as they are: no validation runs twice at one step.
    """

    def __init__(self) -> None:
        self._validated_step: int | None = None
        self._is_repeated = False  # by a run that resumes: it repeats the batches since the last update

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let Lightning's loop validate only weights that have changed since the last validation."""
        loop: Any = trainer.fit_loop.epoch_loop
        is_due = type(loop)._should_check_val_fx

        def is_due_and_new(data_fetcher: Any) -> bool:
            # Where a run resumes, Lightning asks whether it stopped during a validation.
            is_new = loop.val_loop.restarting or trainer.global_step != self._validated_step
            return is_new and is_due(loop, data_fetcher)

        loop._should_check_val_fx = is_due_and_new

    def state_dict(self) -> dict[str, Any]:
        """Return the step validated last."""
        return {"validated_step": None if self._is_repeated else self._validated_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the step validated last: a run resumed at its end validates once, not twice."""
        self._validated_step = state_dict["validated_step"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remember that this step is validated, unless it was a sanity check."""
        if not trainer.sanity_checking:
            self._validated_step = trainer.global_step
            self._is_repeated = batches_since_step(trainer) > 0

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate, unless the last step was."""
        if trainer.enable_validation and self._validated_step != trainer.global_step:
            _run_validation(trainer)


class StopWithoutProgress(EarlyStopping):
    """Ends the run after `patience` validations without a higher J&F; each step counts once.

    A validation that only the end of the run asks for does not count: the run may resume with more steps.
    """

    __qualname__ = EarlyStopping.__qualname__  # Lightning files its state under this name

    def __init__(self, patience: int) -> None:
        super().__init__(MONITOR, mode="max", patience=patience, check_on_train_epoch_end=False)
        self._counted_step = -1

    def state_dict(self) -> dict[str, Any]:
        """Return Lightning's state and the step counted last."""
        return {**super().state_dict(), "counted_step": self._counted_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, but for the patience: a resumed run has its own."""
        super().load_state_dict({**state_dict, "patience": self.patience})
        self._counted_step = state_dict.get("counted_step", -1)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the validation, and end the run where it is one too many without progress."""
        epochs, step = trainer.fit_loop.epoch_progress.current, trainer.global_step
        is_running = not step or epochs.ready != epochs.processed  # type: ignore[attr-defined]
        if not self._should_skip_check(trainer) and is_running and step != self._counted_step:
            self._counted_step = step
            super().on_validation_end(trainer, pl_module)


def _run_validation(trainer: L.Trainer) -> None:
    """Run a whole validation of a fit, outside its epochs; every rank must take part."""
    # Lightning has no public way: `trainer.validate` would end the fit's own loops and loaders.
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True
