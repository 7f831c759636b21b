from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from sam2vt.core.training.callbacks.checkpoints import SaveCheckpoints
from sam2vt.core.training.callbacks.stopping import SaveOnSigterm, ShareSignals, stop_on_signals
from sam2vt.core.training.checkpoints.store import CheckpointStore

pytestmark = pytest.mark.usefixtures("hangups")


def a_trainer() -> L.Trainer:
    return L.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)


def interrupt(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def code_of(fit: Callable[[], None], trainer: Any) -> Any:
    with pytest.raises(SystemExit) as end, stop_on_signals(trainer):
        fit()
    return end.value.code


def test_the_first_interrupt_is_a_wish_to_stop_and_ends_with_130() -> None:
    trainer, before = a_trainer(), signal.getsignal(signal.SIGINT)

    def fit() -> None:
        interrupt()
        assert trainer.received_sigterm
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


def test_a_hangup_that_is_ignored_stays_so() -> None:
    """As under nohup, whose runs outlive their terminal."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_on_signals(a_trainer()):
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


CLOSED = """
import sys
import time
import lightning as L
from sam2vt.core.training.callbacks.stopping import stop_on_signals

trainer = L.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
with stop_on_signals(trainer):
    print("ready", flush=True)
    while not trainer.received_sigterm:
        time.sleep(0.05)
    print("nobody reads this", flush=True)
    print("nor this", file=sys.stderr)
    sys.exit(143)
"""


@pytest.mark.timeout(90)
def test_a_closed_terminal_takes_no_more_output_and_breaks_nothing(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(CLOSED)
    terminal, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(inner)
    while b"ready" not in os.read(terminal, 1000):
        pass
    os.close(terminal)
    try:
        assert process.wait(30) == 129
    finally:
        process.kill()


def test_a_thread_leaves_signals_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def run() -> None:
        with stop_on_signals(a_trainer()):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]


class SignalAt(L.Callback):
    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            interrupt(self.number)


@pytest.fixture
def fit_with_signals(fit: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`fit` as `train` runs it."""
    plain = L.Trainer.fit

    def within(self: L.Trainer, *arguments: Any, **named: Any) -> None:
        with stop_on_signals(self):
            plain(self, *arguments, **named)

    monkeypatch.setattr(L.Trainer, "fit", within)
    return fit


def saving(folder: Any) -> SaveCheckpoints:
    return SaveCheckpoints(CheckpointStore(str(folder)), None, folder)


ENDING = pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)


@ENDING
def test_a_fit_is_saved_and_ends(
    fit_with_signals, one_weight, tmp_path, caplog, number: signal.Signals, code: int
) -> None:
    with pytest.raises(SystemExit) as end:
        fit_with_signals(one_weight(), [SignalAt(2, number), SaveOnSigterm(), saving(tmp_path)])
    assert end.value.code == code
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3
    assert [text for text in caplog.messages if "SIG" in text] == [f"{number.name}: step 3 saved"]
    assert CheckpointStore(str(tmp_path)).manifests()[-1].reason == number.name.lower()


@ENDING
def test_all_ranks_name_the_signal_of_one(monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> None:
    """Also a rank that got none; a signal of its own, later, is its first."""
    trainer = a_trainer()
    monkeypatch.setattr(L.Trainer, "world_size", 2)
    saver, kinds = SaveOnSigterm(), (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    trainer.callbacks.append(saver)

    def reduce(numbers: torch.Tensor, op: Any) -> None:
        assert numbers.tolist() == [0, 0, 0, 0]
        numbers[kinds.index(number)] = 1

    monkeypatch.setattr("sam2vt.core.training.callbacks.stopping.dist.all_reduce", reduce)

    def fit() -> None:
        (share,) = (each for each in trainer.callbacks if isinstance(each, ShareSignals))
        share.on_validation_batch_end(trainer)
        assert (trainer.received_sigterm, saver.number, share.asked) == (True, number, set())
        raise SystemExit(143)

    assert code_of(fit, trainer) == code


def test_sigusr1_saves_and_the_fit_goes_on(fit_with_signals, one_weight, tmp_path) -> None:
    before, saver = signal.getsignal(signal.SIGUSR1), saving(tmp_path)
    save, saved = saver.save, []

    def note(trainer: L.Trainer, reason: str) -> None:
        saved.append((trainer.global_step, reason))
        save(trainer, reason)

    saver.save = note  # type: ignore[method-assign]
    trainer = fit_with_signals(one_weight(), [SignalAt(1, signal.SIGUSR1), SaveOnSigterm(), saver])
    assert trainer.global_step == 6
    assert [each for each in saved if each[1] == "signal"] == [(2, "signal")]
    assert signal.getsignal(signal.SIGUSR1) is before
