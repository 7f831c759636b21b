"""The driver's wish to stop, as a worker reads it."""

from __future__ import annotations

import signal
from typing import Any

import lightning as L
import pytest

from sam2vt.core.training.callbacks.stopping import SaveOnSigterm
from sam2vt.distributed.worker.callbacks import RankZero, WatchSignals


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
