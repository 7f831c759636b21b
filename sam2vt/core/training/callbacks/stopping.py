"""On SIGTERM: save, then end with exit code 143."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
from lightning.pytorch.utilities.exceptions import SIGTERMException

from sam2vt.core.training.callbacks.checkpoints import SaveCheckpoints
from sam2vt.errors import SIGINT_EXIT_CODE, SIGTERM_EXIT_CODE

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


_LIGHTNINGS_EXIT_CODE = 1  # what Lightning makes of a KeyboardInterrupt


@contextmanager
def stop_on_interrupt(trainer: L.Trainer) -> Iterator[None]:
    """The first SIGINT ends the fit within this block as a SIGTERM would, a second one at once.

    Either way the block raises SystemExit with code 130. Outside the main thread, where Python lets nobody
    handle signals, nothing changes.
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
