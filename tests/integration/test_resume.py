"""A run that was stopped and went on gives the same clips and the same weights as one that was not."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from sam2vt.config import Config
from sam2vt.core.storage import fetching
from sam2vt.core.storage.folder import Folder
from sam2vt.core.training.callbacks.averaging import TRAINED, AverageWeights
from sam2vt.core.training.callbacks.checkpoints import checkpoint_callbacks
from sam2vt.core.training.callbacks.stopping import SaveOnSigterm
from sam2vt.core.training.callbacks.validations import FinalValidation
from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
from sam2vt.errors import CheckpointError, ConfigError
from sam2vt.train import build_trainer, train

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


def run(
    config: Config, stop_at: int | None = None, resume: Path | None = None, more: Sequence[L.Callback] = ()
):
    """(the clips seen, the weights afterwards, optimizer state) of one fit."""
    clips, module = Clips(stop_at), SAM2LightningModule(config)
    callbacks = [*more, clips, SaveOnSigterm(), *checkpoint_callbacks(config)]
    trainer = build_trainer(config, callbacks)
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


def test_an_average_of_the_weights_resumes_with_them(config) -> None:
    """Stopped before it begins, when it does, and after."""
    config.model.ema.decay, config.model.ema.start_step = 0.8, 3

    def averaged(stop_at: int | None = None, resume: Path | None = None) -> tuple[Any, Any]:
        _, weights = run(config, stop_at, resume, [AverageWeights(0.8, 3)])
        return weights, torch.load(last, weights_only=True).get(TRAINED)

    last = config.checkpoint_dir / "last.ckpt"
    average, trained = averaged()
    assert any(not value.equal(average[name]) for name, value in trained.items())
    for stop_at in (2, STEPS_PER_EPOCH, 4):
        shutil.rmtree(config.checkpoint_dir)
        assert (averaged(stop_at)[1] is None) == (stop_at < 3)
        again = averaged(resume=last)
        assert_equal(again[0], average)
        assert_equal(again[1], trained)


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


def run_to(config: Config, max_steps: int, resume: Path | None = None):
    """A fit that `max_steps` ends, with the validation of its last step."""
    config.trainer.max_steps = max_steps
    return run(config, resume=resume, more=[FinalValidation()])


# Within the first epoch, at the ends of two, and within the last.
def test_a_run_that_max_steps_ended_goes_on_wherever_that_was(config, whole) -> None:
    seen, last = [], None
    for max_steps in (2, STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH, 7, -1):
        clips, weights = run_to(config, max_steps, last)
        seen += clips
        assert len(seen) == (max_steps if max_steps > 0 else 3 * STEPS_PER_EPOCH)
        last = config.checkpoint_dir / "last.ckpt"
    assert seen == whole[0]
    assert_equal(weights, whole[1])


def test_a_run_that_max_steps_ended_between_epochs_of_accumulation_goes_on(config) -> None:
    """An epoch has two updates, of two clips and of one; validations come between them, too."""
    config.trainer.accumulate_grad_batches, config.trainer.val_check_interval = 2, 1
    whole, weights = run_to(config, -1)
    seen, last = [], None
    for max_steps, clips in ((1, 2), (2, 3), (3, 5), (4, 6), (-1, 9)):
        config.output_dir = str(Path(config.output_dir).parent / "resumed")
        more, again = run_to(config, max_steps, last)
        seen += more
        assert len(seen) == clips
        last = config.checkpoint_dir / "last.ckpt"
    assert seen == whole
    assert_equal(again, weights)


def test_a_checkpoint_of_a_run_without_max_steps_goes_on_with_it(config, whole) -> None:
    """Lightning would count an epoch that is complete once more."""
    config.trainer.max_epochs = 1
    first, _ = run(config)
    config.trainer.max_epochs = 3
    rest, weights = run_to(config, 3 * STEPS_PER_EPOCH, config.checkpoint_dir / "last.ckpt")
    assert first + rest == whole[0]
    assert_equal(weights, whole[1])


def test_a_finished_run_goes_on_for_more_epochs(config, whole) -> None:
    config.trainer.max_epochs = 2
    first, _ = run(config)
    config.trainer.max_epochs = 3
    rest, weights = run(config, resume=config.checkpoint_dir / "last.ckpt")
    assert first + rest == whole[0]
    assert_equal(weights, whole[1])


def test_a_frozen_encoder_is_not_saved_again_and_the_run_goes_on_exactly(config, tmp_path) -> None:
    """Checkpoints of what trained: smaller by what did not, and the base is asked for by its sha256."""
    config.trainer.max_epochs = 2
    base = tmp_path / "base.pt"
    torch.save({"model": SAM2LightningModule(config).model.load("cpu").network.state_dict()}, base)
    config.model.checkpoint_path = str(base)
    whole, weights = run(config)
    last = config.checkpoint_dir / "last.ckpt"
    content = torch.load(last, weights_only=True)
    assert content["base"]["path"] == str(base)
    assert {name.split(".")[2] for name in content["state_dict"] if "image_encoder" in name} == set()

    module = SAM2LightningModule(config)
    module.setup("fit")
    left_out = sum(p.numel() * p.element_size() for p in module.parameters() if not p.requires_grad)
    torch.save({**content, "state_dict": weights}, tmp_path / "full.ckpt")
    full, small = (tmp_path / "full.ckpt").stat().st_size, last.stat().st_size
    print(f"{small} bytes, {full} with the frozen {left_out}")
    assert left_out > 0.15 * full
    assert full - small == pytest.approx(left_out, rel=0.05)

    config.output_dir = str(tmp_path / "stopped")
    first, _ = run(config, stop_at=4)
    moved = tmp_path / "moved.pt"
    base.rename(moved)
    last = config.checkpoint_dir / "last.ckpt"
    with pytest.raises(CheckpointError, match=r"base\.pt"):
        run(config, resume=last)
    config.model.checkpoint_path = str(moved)
    rest, again = run(config, resume=last)
    assert first + rest == whole
    assert_equal(again, weights)
    restored = SAM2LightningModule.load_from_checkpoint(config.checkpoint_dir / "last.ckpt")
    assert_equal(restored.state_dict(), weights)


def test_auto_goes_on_and_a_used_folder_is_not_taken_unasked(config) -> None:
    config.trainer.max_epochs, config.trainer.limit_val_batches = 1, 0
    config.resume = "auto"  # a new start, since there is nothing yet
    assert train(config).global_step == STEPS_PER_EPOCH
    config.resume = None
    with pytest.raises(ConfigError, match="resume=auto"):
        train(config)
    config.resume, config.trainer.max_epochs = "auto", 2
    (manifest,) = CheckpointStore(str(config.checkpoint_dir)).manifests()
    assert train(config).global_step == 2 * STEPS_PER_EPOCH
    assert (manifest.step, manifest.epoch, manifest.samples_seen) == (STEPS_PER_EPOCH, 1, STEPS_PER_EPOCH)
    assert CheckpointStore(str(config.checkpoint_dir)).newest().step == 2 * STEPS_PER_EPOCH


@pytest.mark.parametrize("kind", ["auto", "a file", "of an older version", "without a manifest"])
def test_a_resumed_run_reads_and_hashes_each_file_once(config, tmp_path, monkeypatch, kind) -> None:
    """Whatever names the checkpoint; one without position and settings in its manifest is not read twice."""
    base = tmp_path / "base.pt"
    torch.save({"model": SAM2LightningModule(config).model.load("cpu").network.state_dict()}, base)
    config.model.checkpoint_path = str(base)
    config.trainer.max_epochs, config.trainer.limit_val_batches = 1, 0
    train(config)
    (manifest,) = CheckpointStore(str(config.checkpoint_dir)).manifests()
    file, beside = config.checkpoint_dir / manifest.file, config.checkpoint_dir / manifest.name
    if kind == "of an older version":
        old = json.loads(beside.read_text())
        assert old.pop("position")["samples_seen"] == STEPS_PER_EPOCH
        assert old.pop("config")["model"]["checkpoint_path"] == str(base)
        beside.write_text(json.dumps(old))
    if kind == "without a manifest":
        beside.unlink()
    config.resume = "auto" if kind in ("auto", "of an older version") else str(file)
    config.trainer.max_epochs = 2

    done: list[tuple[str, str]] = []
    load, sha256, of_folder = torch.load, fetching.file_sha256, Folder.sha256

    def note(what: str, path: Any) -> None:
        if (name := Path(getattr(path, "name", path)).name) in (base.name, file.name):
            done.append((what, name))

    monkeypatch.setattr(torch, "load", lambda path, **named: (note("load", path), load(path, **named))[1])
    monkeypatch.setattr(fetching, "file_sha256", lambda path: (note("hash", path), sha256(path))[1])
    monkeypatch.setattr(Folder, "sha256", lambda self, name: (note("hash", name), of_folder(self, name))[1])
    fetching._sha256.cache_clear()
    assert train(config).global_step == 2 * STEPS_PER_EPOCH
    hashed = [] if kind == "without a manifest" else [("hash", file.name)]
    assert sorted(done) == sorted([("load", base.name), ("hash", base.name), ("load", file.name), *hashed])
