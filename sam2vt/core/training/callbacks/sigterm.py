"""On SIGTERM: save, then end with exit code 143."""

from __future__ import annotations

import logging

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from sam2vt.core.training.callbacks.checkpoints import SaveCheckpoints
from sam2vt.errors import SIGTERM_EXIT_CODE

log = logging.getLogger(__name__)


class SaveOnSigterm(L.Callback):
    """Lightning notes the signal and raises a SystemExit between two steps, whose exit code is 0.

    This saves first and gives that exit its code; a signal that comes after the last step ends the
    process with the same code once the fit is over.
    """

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if not isinstance(exception, SIGTERMException):
            return
        exception.code = SIGTERM_EXIT_CODE
        if trainer.validating:
            _repeat_validation(trainer)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, SaveCheckpoints):
                callback.save(trainer, "sigterm")
                callback.wait()
                outcome = "saved" if callback.failure is None else f"could not be saved: {callback.failure}"
                log.warning("SIGTERM: step %d %s", trainer.global_step, outcome)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.received_sigterm:
            raise SIGTERMException(SIGTERM_EXIT_CODE)


def _repeat_validation(trainer: L.Trainer) -> None:
    """Let a resumed run do the whole interrupted validation again, whose rows are lost.

    These counters are what Lightning takes for a validation stopped in its first batch.
    """
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.reset()
    progress.total.load_state_dict({"ready": 1, "started": 1, "processed": 0, "completed": 0})
