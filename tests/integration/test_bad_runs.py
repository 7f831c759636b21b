"""Runs that must stop, and how they end."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lightning as L
import pytest
import torch

from sam2vt.config import Config
from sam2vt.configuration.loading import to_dict
from sam2vt.core.training.callbacks.non_finite import StopOnNonFinite
from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
from sam2vt.errors import CheckpointError, ConfigError, TrainingError
from sam2vt.train import build_trainer, train


@pytest.fixture
def config(tiny_config, tmp_path) -> Config:
    config = copy.deepcopy(tiny_config)
    config.output_dir = str(tmp_path / "run")
    return config


class PoisonAt(L.Callback):
    """Makes an image not a number at one step; keeps the weights from before it."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.clip = ""
        self.weights: dict[str, torch.Tensor] = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            batch["images"] = torch.full(batch["images"].shape, float("nan"))
            self.clip = f"{batch['video_id'][0]} frames {batch['frame_indices'][0]}"
            self.weights = copy.deepcopy(pl_module.state_dict())


def test_a_non_finite_loss_stops_before_the_update_and_names_the_clip(config) -> None:
    config.trainer.limit_val_batches = 0.0
    poison, module = PoisonAt(1), SAM2LightningModule(config)
    trainer = build_trainer(config, [poison, StopOnNonFinite()])
    with pytest.raises(TrainingError) as caught:
        trainer.fit(module, datamodule=SAM2LightningDataModule(config))
    assert caught.value.exit_code == 3
    assert str(caught.value).startswith(f"step 2: loss nan on {poison.clip}.")
    assert all(torch.equal(value, poison.weights[name]) for name, value in module.state_dict().items())


def test_resuming_with_other_trainable_modules_says_what_differs(config, tmp_path) -> None:
    config.trainer.max_steps, config.trainer.limit_val_batches = 1, 0
    train(config)
    config.resume = str(config.checkpoint_dir / "last.ckpt")
    config.trainer.max_steps = config.trainer.max_epochs = 2
    config.output_dir = str(tmp_path / "more")
    other = copy.deepcopy(config)
    other.model.trainable_modules = ["mask_decoder"]
    with pytest.raises(CheckpointError, match=r"model\.trainable_modules was .*, is \['mask_decoder'\]"):
        train(other)
    assert train(config).global_step == 2


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("val_check_interval", 4, "an epoch has only 3 batches"),
        ("limit_train_batches", 0.001, "less than one, of an epoch's batches"),
        ("limit_val_batches", 0.1, "less than one, of the batches of validation clips"),
    ],
)
def test_limits_that_leave_nothing_stop_the_run_before_its_first_step(config, field, value, message) -> None:
    setattr(config.trainer, field, value)
    with pytest.raises(ConfigError, match=message):
        train(config)


SCRIPT = """
import sys, yaml
from sam2vt.configuration.loading import from_dict
from sam2vt.errors import exit_on_error
from sam2vt.train import setup_logging, train
config = from_dict(yaml.safe_load(open(sys.argv[1])))
setup_logging("INFO")
with exit_on_error():
    train(config)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends_with_its_code(config, tmp_path, number, code) -> None:
    import yaml

    config.dataset.clips_per_video = 1000
    config.dataset.num_workers = 1
    config.trainer.limit_val_batches = 1  # type: ignore[assignment]
    settings, log = tmp_path / "config.yaml", tmp_path / "log"
    settings.write_text(yaml.safe_dump(to_dict(config)))
    command = [sys.executable, "-c", SCRIPT, str(settings)]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        _wait_for("step 1 of", log, process)
        if number == signal.SIGINT:  # a terminal sends it to all processes
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.wait(timeout=180) == code, log.read_text()
    finally:
        process.kill()
    last = torch.load(config.checkpoint_dir / "last.ckpt", weights_only=True)
    assert last["global_step"] >= 1
    assert last["SAM2LightningDataModule"]["samples_seen"] == last["global_step"]
    assert f"step {last['global_step']} saved" in log.read_text()
    assert "Traceback" not in log.read_text()


def _wait_for(text: str, log: Path, process: subprocess.Popen, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if text in log.read_text():
            return
        time.sleep(0.2)
    pytest.fail(f"the run did not get to {text!r}:\n{log.read_text()}")
