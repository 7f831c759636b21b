from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sam2vt.core.training.callbacks.stopping import stop_on_interrupt


def a_trainer() -> SimpleNamespace:
    return SimpleNamespace(_signal_connector=SimpleNamespace(received_sigterm=False))


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def code_of(fit: Callable[[], None], trainer: Any) -> Any:
    with pytest.raises(SystemExit) as end, stop_on_interrupt(trainer):
        fit()
    return end.value.code


def test_the_first_interrupt_is_a_wish_to_stop_and_ends_with_130() -> None:
    trainer, before = a_trainer(), signal.getsignal(signal.SIGINT)

    def fit() -> None:
        interrupt()
        assert trainer._signal_connector.received_sigterm
        raise SystemExit(143)  # what comes of a SIGTERM

    assert code_of(fit, trainer) == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_ends_it_at_once() -> None:
    def fit() -> None:
        interrupt()
        try:
            interrupt()
        except KeyboardInterrupt:
            raise SystemExit(1) from None  # what Lightning makes of it

    assert code_of(fit, a_trainer()) == 130


def test_a_sigterm_keeps_its_code() -> None:
    def fit() -> None:
        raise SystemExit(143)

    assert code_of(fit, a_trainer()) == 143


def test_a_thread_leaves_signals_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def run() -> None:
        with stop_on_interrupt(a_trainer()):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]
