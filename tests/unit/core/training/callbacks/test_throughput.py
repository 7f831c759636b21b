from __future__ import annotations

import logging
import re
import sys

import lightning as L
import pytest
from lightning.pytorch.loggers import Logger

from sam2vt.core.training.callbacks import throughput
from sam2vt.core.training.callbacks.log_lines import LogLines
from sam2vt.core.training.callbacks.throughput import Meter, Throughput


class Clock:
    """Time that passes only where something is slow: a busy machine changes nothing."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    return clock


class SlowValidation(L.Callback):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_validation_batch_start(self, *args) -> None:
        self.clock.sleep(0.2)


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


def test_validation_is_not_counted_and_the_end_prints(fit, one_weight, clock, caplog) -> None:
    callback = Throughput()
    with caplog.at_level(logging.INFO):
        fit(one_weight(), [callback, SlowValidation(clock)], max_epochs=2, log_every_n_steps=1)
    assert clock.now > 0.3
    assert callback.total.clips == 6
    assert callback.total.seconds == 0
    assert "6 clips in 0 s of training" in caplog.text


def test_log_lines_say_step_loss_rate_and_time_left(fit, one_weight, caplog) -> None:
    with caplog.at_level(logging.INFO):
        fit(one_weight([0.25]), [LogLines(seconds=0)], [1.0] * 4, max_epochs=2, log_every_n_steps=3)
    lines = [r.message for r in caplog.records if r.name.endswith("log_lines")]
    assert [line.split(":")[0] for line in lines] == [
        "epoch 0, step 3 of 8",
        "step 4",
        "epoch 1, step 6 of 8",
        "step 8",
    ]
    assert "clips/s, 0:00:00 left" in lines[0]
    assert lines[1] == "step 4: val/J&F 0.250"


class Written(Logger):
    """Notes the training steps that Lightning writes down, and with which clips/s."""

    name = version = ""

    def __init__(self) -> None:
        super().__init__()
        self.rates: dict[int, float | None] = {}
        self.metrics: dict[int, dict[str, float]] = {}

    def log_hyperparams(self, *args, **kwargs) -> None:
        return None

    def log_metrics(self, metrics, step=None) -> None:
        if "val/J&F" not in metrics:
            self.rates[step] = metrics.get("train/clips_per_second")
            self.metrics[step] = metrics


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
            [Throughput(), LogLines(seconds=0)],
            [1.0] * clips,
            max_epochs=epochs,
            accumulate_grad_batches=accumulate,
            log_every_n_steps=2,
            logger=written,
        )
    assert [step + 1 for step in written.rates] == steps
    assert all(rate and rate > 0 for rate in written.rates.values())
    lines = [r.message for r in caplog.records if r.message.endswith(" left")]
    assert [int(line.split("step ")[1].split(" of")[0]) for line in lines] == steps


def test_log_lines_without_an_end(fit, one_weight, caplog) -> None:
    class Stop(L.Callback):
        def on_train_batch_end(self, trainer, *args) -> None:
            trainer.should_stop = trainer.global_step >= 2

    with caplog.at_level(logging.INFO):
        fit(one_weight(), [LogLines(seconds=0), Stop()], max_epochs=-1, log_every_n_steps=1)
    assert "step 1 of unlimited" in caplog.text
    assert "unknown time left" in caplog.text


def test_few_lines_however_short_the_steps(fit, one_weight, caplog) -> None:
    with caplog.at_level(logging.INFO):
        fit(one_weight(), [LogLines()], [1.0] * 20, max_epochs=3, log_every_n_steps=1, num_val_batches=0)
    assert sum("loss" in r.message for r in caplog.records if r.name.endswith("log_lines")) == 1


def test_a_meter_that_saw_nothing() -> None:
    meter = Meter()
    assert (meter.clips_per_second, meter.frames_per_second, meter.data_wait) == (0.0, 0.0, 0.0)


class SlowClips(list):
    """Takes 0.1 s to give a clip; a training step takes 0.05 s."""

    clock: Clock

    def __getitem__(self, place):
        self.clock.sleep(0.1)
        return super().__getitem__(place)


def test_waiting_for_data_and_frames_are_logged(fit, one_weight, clock, monkeypatch, caplog) -> None:
    class Slow(one_weight):
        def training_step(self, batch, batch_idx):
            clock.sleep(0.05)
            return super().training_step(batch, batch_idx)

    fit_clips = sys.modules[one_weight.__module__]
    original, SlowClips.clock = fit_clips.clips, clock
    monkeypatch.setattr(fit_clips, "clips", lambda targets: SlowClips(original(targets)))
    written, callback = Written(), Throughput()
    with caplog.at_level(logging.INFO):
        settings = {"max_epochs": 2, "log_every_n_steps": 4, "logger": written, "limit_val_batches": 0}
        fit(Slow(), [callback, SlowValidation(clock)], [1.0] * 4, **settings)
    # The first wait is the start of the data's pipeline: 7 waits and 8 steps are left.
    assert callback.total.waited == pytest.approx(0.7)
    assert callback.total.data_wait == pytest.approx(0.7 / 1.1)
    assert callback.total.frames == 16
    last = written.metrics[7]
    assert last["train/data_wait"] == pytest.approx(2 / 3, abs=0.1)
    assert 10 < last["train/frames_per_second_per_rank"] <= 2 / 0.15
    assert 5 < last["train/clips_per_second"] <= 1 / 0.15
    assert re.search(r"frames/s per rank, \d\d\.\d% of the time waiting for data", caplog.text)
