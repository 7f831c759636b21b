"""Ctrl-C while a fit runs: save and stop, as on SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L

from sam2vt.errors import SIGINT_EXIT_CODE, SIGTERM_EXIT_CODE

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
