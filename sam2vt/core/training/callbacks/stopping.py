"""Signals: save, then end with the exit code of SIGTERM, SIGINT or SIGHUP; save and continue (SIGUSR1)."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.utilities.exceptions import SIGTERMException

from sam2vt.core.training.callbacks.checkpoints import SaveCheckpoints
from sam2vt.core.training.checkpoints.position import may_save
from sam2vt.errors import EXIT_CODES, SIGTERM_EXIT_CODE
from sam2vt.logs import leave_closed_terminal

log = logging.getLogger(__name__)


class SaveOnSigterm(L.Callback):
    """Saves on SIGTERM, or on another signal that `end_fit` was given.

    Lightning notes the signal and raises a SystemExit with code 0 between two steps. This callback saves
    first and sets the code. A signal after the last step ends the process with the same code once the fit
    is over.
    """

    number = signal.SIGTERM

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Save, and give the exit its code."""
        if not isinstance(exception, SIGTERMException):
            return
        exception.code = SIGTERM_EXIT_CODE
        if trainer.validating:
            _repeat_validation(trainer)
        for callback in _savers(trainer):
            callback.save(trainer, self.number.name.lower())
            callback.wait()
            outcome = "saved" if callback.failure is None else f"could not be saved: {callback.failure}"
            log.warning("%s: step %d %s", self.number.name, trainer.global_step, outcome)
        trainer.strategy.barrier("saved")
        # Lightning's observer kills rank 0 soon after the process of another rank has ended.
        for thread in threading.enumerate():
            if thread.name == "child-process-observer":
                thread._child_processes = []  # type: ignore[attr-defined]

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Raise SIGTERMException for a signal that came too late to interrupt a step."""
        if trainer.received_sigterm:
            raise SIGTERMException(SIGTERM_EXIT_CODE)


def end_fit(trainer: L.Trainer, number: int) -> None:
    """Let Lightning end the fit after this step, because of a signal that `SaveOnSigterm` names."""
    trainer._signal_connector.received_sigterm = True
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, SaveOnSigterm):
            callback.number = signal.Signals(number)


def _savers(trainer: L.Trainer) -> list[SaveCheckpoints]:
    return [each for each in trainer.checkpoint_callbacks if isinstance(each, SaveCheckpoints)]


def _repeat_validation(trainer: L.Trainer) -> None:
    """Let a resumed run repeat the whole interrupted validation, whose rows are lost."""
    # By these counters Lightning takes the validation for one that stopped in its first batch.
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.reset()
    progress.total.load_state_dict({"ready": 1, "started": 1, "processed": 0, "completed": 0})


_LIGHTNINGS_EXIT_CODE = 1  # what Lightning makes of a KeyboardInterrupt


class ShareSignals(L.Callback):
    """Turns the signals of any rank into acts of all ranks after the same batch.

    SIGTERM, SIGINT and SIGHUP end the fit; SIGUSR1 saves, and the fit continues. A batch system signals each
    rank at a moment of its own, and a rank that acted alone would leave the others waiting.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        self.trainer = trainer
        self.asked: set[int] = set()
        self.ends_by: int | None = None  # the signal, of any rank, for which the fit ends
        self.awaited: list[int] = []  # signals that are handled once all ranks have met
        self._trains = False

    def ask(self, number: int, *_: object) -> None:
        """Handle a signal. Raises KeyboardInterrupt at the second SIGINT."""
        if number == signal.SIGINT and number in self.asked:
            raise KeyboardInterrupt
        if number == signal.SIGHUP:
            leave_closed_terminal()
        self.asked.add(number)
        if number != signal.SIGUSR1 and not (self._trains and self.trainer.world_size > 1):
            self._end(number)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Handle the awaited signals: all ranks have met."""
        for number in self.awaited:
            signal.signal(number, self.ask)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Share from now on, also what came before."""
        self._trains = True
        trainer._signal_connector.received_sigterm = trainer.world_size == 1 and trainer.received_sigterm

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Let all ranks stop or save if one is asked to."""
        if self._share() and may_save(trainer):
            for callback in _savers(trainer):
                callback.save(trainer, "signal")
            self.asked.discard(signal.SIGUSR1)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Let all ranks stop if one is asked to."""
        self._share()

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let all ranks end with the same code."""
        self._share()

    def _share(self) -> bool:
        """Note on all ranks whether to stop, and return whether to save."""
        kinds = (*EXIT_CODES, signal.SIGUSR1)
        wishes = [each in self.asked for each in kinds]
        if self.trainer.world_size > 1:
            numbers = torch.tensor(wishes, dtype=torch.uint8, device=self.trainer.strategy.root_device)
            dist.all_reduce(numbers, dist.ReduceOp.MAX)
            wishes = [bool(each) for each in numbers.tolist()]
        if any(wishes[:-1]):
            self._end(kinds[wishes.index(True)])
        return wishes[-1]

    def _end(self, number: int) -> None:
        self.ends_by = number
        end_fit(self.trainer, number)


@contextmanager
def stop_on_signals(trainer: L.Trainer) -> Iterator[None]:
    """End the fit within this block on SIGTERM, SIGINT and SIGHUP, saved; a second SIGINT ends it at once.

    The block then raises SystemExit with the signal's code. SIGUSR1 saves. A SIGHUP that is ignored, as under
    nohup, stays so. Outside the main thread, where Python forbids signal handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    share = ShareSignals(trainer)
    trainer.callbacks.insert(0, share)  # type: ignore[attr-defined]
    # Lightning's own handler of SIGTERM would start a broadcast amid whatever the ranks do.
    trainer._signal_connector._sigterm_notifier_fn = share.ask  # type: ignore[assignment,method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    # After the fit Lightning restores the handler of SIGTERM that it found. A batch system may signal again
    # while the process ends, which by default would kill it with another code.
    ending = (signal.SIGTERM, signal.SIGHUP)
    others = [number for number in ending if signal.getsignal(number) is signal.SIG_DFL]
    taken = [signal.SIGINT, signal.SIGUSR1, *others]
    # A rank that waits for others is in native code for minutes, where Python's handlers do not run, and has
    # nothing to save: by default a signal ends it.
    share.awaited = [signal.SIGINT, *others] if trainer.num_devices * trainer.num_nodes > 1 else []
    before = {
        number: signal.signal(number, signal.SIG_DFL if number in share.awaited else share.ask)
        for number in taken
    }
    try:
        yield
    except SystemExit as end:
        for number in (signal.SIGINT, signal.SIGHUP):
            is_cause = number in (*share.asked, share.ends_by)
            if is_cause and end.code in (SIGTERM_EXIT_CODE, _LIGHTNINGS_EXIT_CODE):
                raise SystemExit(EXIT_CODES[number]) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
