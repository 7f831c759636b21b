"""Stopping by a signal: save, then end with exit code 143 (SIGTERM) or 130 (SIGINT)."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from sam2vt.core.training.callbacks.checkpoints import SaveCheckpoints
from sam2vt.errors import SIGINT_EXIT_CODE, SIGTERM_EXIT_CODE

log = logging.getLogger(__name__)


class SaveOnSigterm(L.Callback):
    """Saves on SIGTERM.

    Lightning notes the signal and raises a SystemExit with code 0 between two steps. This callback saves
    first and sets the code. A signal after the last step ends the process with the same code once the fit
    is over.
    """

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Save, and give the exit its code."""
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
        """Raise SIGTERMException for a signal that came too late to interrupt a step."""
        if trainer.received_sigterm:
            raise SIGTERMException(SIGTERM_EXIT_CODE)


def _repeat_validation(trainer: L.Trainer) -> None:
    """Let a resumed run repeat the whole interrupted validation, whose rows are lost."""
    # By these counters Lightning takes the validation for one that stopped in its first batch.
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.reset()
    progress.total.load_state_dict({"ready": 1, "started": 1, "processed": 0, "completed": 0})


_LIGHTNINGS_EXIT_CODE = 1  # what Lightning makes of a KeyboardInterrupt


@contextmanager
def stop_on_interrupt(trainer: L.Trainer) -> Iterator[None]:
    """End the fit within this block on SIGINT: the first one as a SIGTERM would, a second one at once.

    Either way the block raises SystemExit with code 130. Outside the main thread, where Python forbids
    signal handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def stop(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        trainer._signal_connector.received_sigterm = True

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    except SystemExit as end:
        if asked and end.code in (SIGTERM_EXIT_CODE, _LIGHTNINGS_EXIT_CODE):
            raise SystemExit(SIGINT_EXIT_CODE) from None
        raise
    finally:
        signal.signal(signal.SIGINT, before)
