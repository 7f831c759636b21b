from __future__ import annotations

import logging
import time

import lightning as L
import pytest
from lightning.pytorch.loggers import Logger

from sam2vt.core.training.callbacks import throughput
from sam2vt.core.training.callbacks.log_lines import LogLines
from sam2vt.core.training.callbacks.throughput import Meter, Throughput


class SlowValidation(L.Callback):
    def on_validation_batch_start(self, *args) -> None:
        time.sleep(0.2)


def test_meter_counts_waiting_but_not_pauses(monkeypatch) -> None:
    clock = iter([0.0, 2.0, 3.0, 100.0, 101.0])
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(clock))
    meter = Meter()
    meter.start()
    meter.add(4)
    meter.start()  # has no effect while it runs
    meter.add(4)
    assert (meter.clips, meter.seconds) == (8, 3.0)
    meter.pause()
    meter.start()
    meter.add(4)
    assert meter.clips_per_second == 12 / 4.0


def test_validation_is_not_counted_and_the_end_prints(fit, one_weight, caplog) -> None:
    callback = Throughput()
    with caplog.at_level(logging.INFO):
        fit(one_weight(), [callback, SlowValidation()], max_epochs=2, log_every_n_steps=1)
    assert callback.total.clips == 6
    assert callback.total.seconds < 0.2
    assert "6 clips in 0 s of training" in caplog.text


def test_log_lines_say_step_loss_rate_and_time_left(fit, one_weight, caplog) -> None:
    with caplog.at_level(logging.INFO):
        fit(one_weight([0.25]), [LogLines()], [1.0] * 4, max_epochs=2, log_every_n_steps=3)
    lines = [r.message for r in caplog.records if r.name.endswith("log_lines")]
    assert [line.split(":")[0] for line in lines] == [
        "epoch 0, step 3 of 8",
        "step 4",
        "epoch 1, step 6 of 8",
        "step 8",
    ]
    assert "clips/s, 0:00:00 left" in lines[0]
    assert lines[1] == "step 4: val/J&F 0.2500"


class Written(Logger):
    """Notes the training steps that Lightning writes down, and with which clips/s."""

    name = version = ""

    def __init__(self) -> None:
        super().__init__()
        self.rates: dict[int, float | None] = {}

    def log_hyperparams(self, *args, **kwargs) -> None:
        return None

    def log_metrics(self, metrics, step=None) -> None:
        if "val/J&F" not in metrics:
            self.rates[step] = metrics.get("train/clips_per_second")


@pytest.mark.parametrize(
    ("accumulate", "clips", "epochs", "steps"),
    [
        (2, 5, 2, [2, 4, 6]),  # three updates an epoch, the last of one batch
        (1, 1, 4, [2, 4]),  # epochs shorter than the interval
        (3, 2, 4, [2, 4]),  # and than the accumulation
    ],
)
def test_lines_and_rates_come_with_the_steps_that_are_written(
    fit, one_weight, caplog, accumulate, clips, epochs, steps
) -> None:
    written = Written()
    with caplog.at_level(logging.INFO):
        fit(
            one_weight(),
            [Throughput(), LogLines()],
            [1.0] * clips,
            max_epochs=epochs,
            accumulate_grad_batches=accumulate,
            log_every_n_steps=2,
            logger=written,
        )
    assert [step + 1 for step in written.rates] == steps
    assert all(rate and rate > 0 for rate in written.rates.values())
    lines = [r.message for r in caplog.records if "clips/s, " in r.message]
    assert [int(line.split("step ")[1].split(" of")[0]) for line in lines] == steps


def test_log_lines_without_an_end(fit, one_weight, caplog) -> None:
    class Stop(L.Callback):
        def on_train_batch_end(self, trainer, *args) -> None:
            trainer.should_stop = trainer.global_step >= 2

    with caplog.at_level(logging.INFO):
        fit(one_weight(), [LogLines(), Stop()], max_epochs=-1, log_every_n_steps=1)
    assert "step 1 of unlimited" in caplog.text
    assert "unknown time left" in caplog.text


def test_a_meter_that_saw_nothing() -> None:
    assert Meter().clips_per_second == 0.0
