"""A run that was stopped and went on gives the same clips and the same weights as one that was not."""

from __future__ import annotations

import copy
import os
import signal
from pathlib import Path

import lightning as L
import pytest
import torch

from sam2vt.config import Config
from sam2vt.core.training.callbacks.checkpoints import checkpoint_callbacks
from sam2vt.core.training.callbacks.sigterm import SaveOnSigterm
from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
from sam2vt.train import create_trainer

STEPS_PER_EPOCH = 3


class Clips(L.Callback):
    """Notes the clips that were trained on; after `stop_at` steps sends this process SIGTERM."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.seen: list[tuple[str, tuple[int, ...]]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen += [(v, tuple(f)) for v, f in zip(batch["video_id"], batch["frame_indices"])]
        if len(self.seen) == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)


def run(config: Config, stop_at: int | None = None, resume: Path | None = None):
    """(the clips seen, the weights afterwards, optimizer state) of one fit."""
    clips, module = Clips(stop_at), SAM2LightningModule(config)
    callbacks = [clips, SaveOnSigterm(), *checkpoint_callbacks(config)]
    trainer = create_trainer(config, callbacks)
    arguments = {"datamodule": SAM2LightningDataModule(config), "ckpt_path": resume, "weights_only": True}
    if stop_at is None:
        trainer.fit(module, **arguments)
    else:
        with pytest.raises(SystemExit) as stopped:
            trainer.fit(module, **arguments)
        assert stopped.value.code == 143
    return clips.seen, module.state_dict()


def assert_equal(state, other) -> None:
    assert state.keys() == other.keys()
    assert not [name for name in state if not torch.equal(state[name], other[name])]


@pytest.fixture(scope="module")
def whole(tiny_config, tmp_path_factory):
    """Three epochs without interruption."""
    config = copy.deepcopy(tiny_config)
    config.output_dir = str(tmp_path_factory.mktemp("whole"))
    return run(_settings(config))


@pytest.fixture
def config(tiny_config, tmp_path) -> Config:
    config = _settings(copy.deepcopy(tiny_config))
    config.output_dir = str(tmp_path / "run")
    return config


def _settings(config: Config) -> Config:
    config.trainer.max_epochs = 3
    config.trainer.limit_val_batches = 1  # type: ignore[assignment]
    config.dataset.prompt_types = ["point", "mask"]
    config.model.num_correction_clicks = 1  # drawn at random
    return config


# Within the first epoch, at its end, and within the second.
@pytest.mark.parametrize("stop_at", [2, STEPS_PER_EPOCH, 4])
def test_the_same_clips_and_the_same_weights(config, whole, stop_at) -> None:
    first, _ = run(config, stop_at)
    last = config.checkpoint_dir / "last.ckpt"
    saved = torch.load(last, weights_only=True)
    assert saved["global_step"] == saved["SAM2LightningDataModule"]["samples_seen"] == stop_at
    rest, weights = run(config, resume=last)
    assert first + rest == whole[0]
    assert len(whole[0]) == 3 * STEPS_PER_EPOCH
    assert_equal(weights, whole[1])


def test_twice_stopped_with_a_loader_process(config, whole) -> None:
    config.dataset.num_workers = 1  # which reads ahead
    last = config.checkpoint_dir / "last.ckpt"
    first, _ = run(config, stop_at=1)
    second, _ = run(config, stop_at=4, resume=last)
    rest, weights = run(config, resume=last)
    assert first + second + rest == whole[0]
    assert_equal(weights, whole[1])


def test_stopped_between_two_updates(config) -> None:
    """The gradient of an unfinished accumulation is lost: its clips come again."""
    config.trainer.accumulate_grad_batches = 2
    whole, weights = run(config)
    last = config.checkpoint_dir / "last.ckpt"
    for stop_at, lost in ((1, 1), (2, 0), (4, 1)):  # an epoch has two updates, after 2 and 3 clips
        last.unlink()
        first, _ = run(config, stop_at)
        saved = torch.load(last, weights_only=True)
        assert saved["SAM2LightningDataModule"]["samples_seen"] == stop_at - lost
        rest, again = run(config, resume=last)
        assert first[: stop_at - lost] + rest == whole
        assert_equal(again, weights)


def test_a_finished_run_goes_on_for_more_epochs(config, whole) -> None:
    config.trainer.max_epochs = 2
    first, _ = run(config)
    config.trainer.max_epochs = 3
    rest, weights = run(config, resume=config.checkpoint_dir / "last.ckpt")
    assert first + rest == whole[0]
    assert_equal(weights, whole[1])
