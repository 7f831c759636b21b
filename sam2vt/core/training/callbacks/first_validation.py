"""Validation of the model before any step, the row to compare later ones with."""

from __future__ import annotations

import lightning as L


class FirstValidation(L.Callback):
    """Runs the fit's own validation loop once before the first step; not when a run is resumed.

    Unlike Lightning's sanity check this is a whole validation: its metrics are logged, and early stopping
    counts from it.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate, if nothing was trained yet."""
        if trainer.global_step > 0 or not trainer.enable_validation:
            return
        run_validation(trainer)


def run_validation(trainer: L.Trainer) -> None:
    """Run a whole validation of a fit, outside its epochs; every rank must take part."""
    # Lightning has no public way: `trainer.validate` would end the fit's own loops and loaders.
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True
