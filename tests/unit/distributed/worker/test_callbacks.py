"""The driver's signals, as a worker reads them."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import ray

from sam2vt.core.training.callbacks.stopping import SaveOnSigterm
from sam2vt.distributed.board import Board
from sam2vt.distributed.worker.callbacks import PostProgress, RankZero, WatchSignals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_signal_of_the_driver_ends_the_fit_and_is_named(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    naming, wishes, saver = SaveOnSigterm(), [0, int(number)], Any
    trainer = L.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, callbacks=[naming]
    )
    watch = WatchSignals(lambda: wishes.pop(0), saver, RankZero(1.0))  # type: ignore[arg-type]
    for ends in (False, True):
        watch._next_look = 0
        watch.on_train_batch_end(trainer)
        assert trainer.received_sigterm == ends
    assert naming.number == number


def test_each_wish_to_save_is_one_save(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the next step that nothing else saves; what was asked for stays asked until then."""
    monkeypatch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    steps = iter([False, True, True, True])
    monkeypatch.setattr("sam2vt.distributed.worker.callbacks.may_save", lambda _: next(steps))
    saved: list[str] = []
    board = Board()
    progress = PostProgress(None, 9)
    monkeypatch.setattr(ray, "wait", lambda replies, timeout: (replies, []))
    monkeypatch.setattr(ray, "get", lambda _: board.post({}, []))
    progress._reply = board
    trainer = L.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    saver = SimpleNamespace(save=lambda _, reason: saved.append(reason))
    watch = WatchSignals(progress.signalled, saver, RankZero(1.0))  # type: ignore[arg-type]
    after = []
    for ask in (1, 0, 0, 2):
        for _ in range(ask):
            board.save()
        watch._next_look = 0
        watch.on_train_batch_end(trainer)
        after.append(len(saved))
    assert (after, saved) == ([0, 1, 1, 2], ["signal", "signal"])
    assert not trainer.received_sigterm
    board.save()
    board.stop(signal.SIGTERM)  # which saves
    assert progress.signalled() == signal.SIGTERM
