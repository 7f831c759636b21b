"""When a run is saved, what the saves are worth, and what it does where they cannot be stored."""

from __future__ import annotations

import csv
import errno
import logging
import shutil
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from sam2vt.config import Config
from sam2vt.core.data.clips.sampling import ClipSampler
from sam2vt.core.training.callbacks import early_stopping
from sam2vt.core.training.callbacks.checkpoints import SaveCheckpoints, checkpoint_callbacks
from sam2vt.core.training.callbacks.results_csv import ResultsCsv
from sam2vt.core.training.callbacks.validations import FinalValidation, FirstValidation
from sam2vt.core.training.checkpoints.position import ResumableSampler, batches_since_step, rewind_loops
from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.core.training.data_module import SAM2LightningDataModule
from sam2vt.errors import TrainingError

NUM_CLIPS = 5


@pytest.fixture
def config(tmp_path) -> Config:
    config = Config(output_dir=str(tmp_path / "run"))
    config.trainer.early_stopping_patience = 2
    return config


def test_best_follows_jf_and_last_is_the_last(fit, one_weight, config, tmp_path) -> None:
    scores = [0.9, 0.2, 0.5, 0.4]  # the first is of the model before any step
    (callback,) = checkpoint_callbacks(config)
    fit(one_weight(scores), [FirstValidation(), callback], max_epochs=3)
    folder = tmp_path / "run" / "checkpoints"
    best = torch.load(folder / "best.ckpt", weights_only=True)
    last = torch.load(folder / "last.ckpt", weights_only=True)
    assert (best["global_step"], last["global_step"]) == (6, 9)
    kept = [(m.step, m.reason, m.score) for m in CheckpointStore(str(folder)).manifests()]
    assert kept == [(6, "validation", pytest.approx(0.5)), (9, "validation", pytest.approx(0.4))]
    assert callback.last_saved_step == 9


def test_a_resumed_run_keeps_the_best_of_before(fit, one_weight, config, tmp_path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    fit(one_weight([0.9, 0.3]), checkpoint_callbacks(config), max_epochs=2)
    last = str(folder / "last.ckpt")
    fit(one_weight([0.5, 0.6]), checkpoint_callbacks(config), max_epochs=4, ckpt_path=last)
    assert torch.load(folder / "best.ckpt", weights_only=True)["global_step"] == 3
    assert torch.load(last, weights_only=True)["global_step"] == 12


def test_the_end_is_saved_where_no_validation_came(fit, one_weight, config, tmp_path) -> None:
    fit(one_weight(), checkpoint_callbacks(config), max_epochs=-1, max_steps=2)
    (manifest,) = CheckpointStore(str(tmp_path / "run" / "checkpoints")).manifests()
    assert (manifest.step, manifest.reason, manifest.score) == (2, "end", None)


def test_save_dir_interval_and_enable_checkpointing(config, tmp_path) -> None:
    config.save_dir, config.trainer.keep_best = str(tmp_path / "elsewhere"), 3
    config.trainer.checkpoint_every_n_steps = 7
    (callback,) = checkpoint_callbacks(config)
    assert (callback.store.root, callback.store.keep_best) == (str(tmp_path / "elsewhere"), 3)
    assert callback.every_n_steps == 7
    config.trainer.enable_checkpointing = False
    assert checkpoint_callbacks(config) == []


class FiveClips(Dataset):
    def __init__(self, clips: list[dict[str, Any]]) -> None:
        self.clips = clips

    def __getitem__(self, key: Any) -> dict[str, Any]:
        return self.clips[key.index]


class Clips(SAM2LightningDataModule):
    """The real positions over five clips in an order of each epoch's own."""

    def __init__(self, clips: list[dict[str, Any]]) -> None:
        super().__init__(Config())
        self.clips = clips

    def setup(self, stage: str | None = None) -> None:
        self.train_records = [None] * NUM_CLIPS  # type: ignore[list-item]

    def train_dataloader(self) -> DataLoader:
        sampler = ClipSampler(NUM_CLIPS, 1, seed=0, shuffle=True, batch_size=1)
        return DataLoader(
            FiveClips(self.clips), batch_size=None, sampler=ResumableSampler(sampler, self.position)
        )

    def val_dataloader(self) -> Any:
        return DataLoader(self.clips[:2], batch_size=None)  # type: ignore[arg-type]


def train(one_weight: Any, folder: Path, settings: dict[str, Any], ckpt_path: str | None = None):
    """(weight, rows of results.csv but for the seconds, all checkpoints) of one fit."""

    class Learner(one_weight):
        def on_validation_epoch_end(self) -> None:
            self.log("val/J&F", float(self.weight))

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            rewind_loops(checkpoint, batches_since_step(self.trainer))

    clips = [
        {"video_id": [f"video{i}"], "frame_indices": [[i]], "target": torch.tensor([1.0 + i])}
        for i in range(NUM_CLIPS)
    ]
    store = CheckpointStore(str(folder / "checkpoints"), keep_newest=1000)
    callbacks = [FinalValidation(), ResultsCsv(folder / "results.csv"), FirstValidation()]
    callbacks.append(SaveCheckpoints(store, 1, folder / "checkpoints"))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(callbacks=callbacks, accelerator="cpu", default_root_dir=folder, **quiet, **settings)
    module = Learner()
    trainer.fit(module, datamodule=Clips(clips), ckpt_path=ckpt_path)
    rows = []
    if (folder / "results.csv").exists():
        with (folder / "results.csv").open() as file:
            rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    return module.weight.detach(), rows, store


SCHEDULES: list[tuple[dict[str, Any], list[int]]] = [
    ({"max_epochs": 2}, [*range(1, 11)]),
    ({"max_epochs": 3, "check_val_every_n_epoch": 2}, [*range(1, 16)]),
    ({"max_epochs": 2, "val_check_interval": 2, "accumulate_grad_batches": 2}, [*range(1, 7)]),
    ({"max_epochs": 2, "val_check_interval": 2, "accumulate_grad_batches": 3}, [*range(1, 5)]),
    ({"max_epochs": 3, "max_steps": 7, "val_check_interval": 2}, [*range(1, 8)]),
    ({"max_epochs": 2, "limit_val_batches": 0, "accumulate_grad_batches": 2}, [*range(1, 7)]),
]


@pytest.mark.parametrize(("settings", "steps"), SCHEDULES)
def test_every_save_goes_on_to_the_same_end(one_weight, tmp_path, settings, steps) -> None:
    """From the middle of epochs, their ends with and without validation, and between validations."""
    weight, rows, store = train(one_weight, tmp_path / "whole", settings)
    assert [manifest.step for manifest in store.manifests()] == steps
    validated = {int(row["step"]) for row in rows}
    for manifest in store.manifests():
        assert (manifest.reason == "validation") == (manifest.step in validated)
        folder = tmp_path / manifest.file
        folder.mkdir()
        if rows:
            shutil.copy(tmp_path / "whole" / "results.csv", folder)
        again, same_rows, _ = train(one_weight, folder, settings, store.path(manifest))
        assert torch.equal(again, weight), manifest
        assert same_rows == rows, manifest


class Failing(CheckpointStore):
    """A store that is full from a step on."""

    def __init__(self, folder: Path, full_from: int) -> None:
        super().__init__(str(folder), pauses=())
        self.full_from = full_from

    def put(self, local, info, adapter=None):
        if info.step >= self.full_from:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().put(local, info, adapter)


def test_training_goes_on_where_a_save_fails(fit, one_weight, tmp_path, caplog) -> None:
    class FullForAWhile(Failing):
        def put(self, local, info, adapter=None):
            self.full_from = 3 if info.step < 6 else 100
            return super().put(local, info, adapter)

    store = FullForAWhile(tmp_path / "checkpoints", 3)
    with caplog.at_level(logging.WARNING, "sam2vt"):
        trainer = fit(one_weight(), [SaveCheckpoints(store, 2, tmp_path / "staging")])
    assert trainer.global_step == 6
    assert len(caplog.messages) == 2  # steps 3 and 4
    assert "step 3 could not be saved: [Errno 28] No space left on device" in caplog.messages[0]
    assert "The last good checkpoint is" in caplog.messages[0]
    assert "step_00000002.ckpt" in caplog.messages[0]
    assert store.newest().step == 6
    assert not list((tmp_path / "staging").iterdir())


def test_an_end_that_cannot_be_saved_is_a_failed_training(fit, one_weight, tmp_path) -> None:
    store = Failing(tmp_path / "checkpoints", 4)
    with pytest.raises(
        TrainingError, match=r"step 6, cannot be saved.*No space left.*step_00000003"
    ) as caught:
        fit(one_weight(), [SaveCheckpoints(store, None, tmp_path / "staging")])
    assert caught.value.exit_code == 3
    assert store.newest().step == 3


def test_a_full_staging_folder_is_a_failed_save_too(fit, one_weight, tmp_path, monkeypatch) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc] unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    store = CheckpointStore(str(tmp_path / "checkpoints"))
    with pytest.raises(TrainingError, match="unexpected pos"):
        fit(one_weight(), [SaveCheckpoints(store, None, tmp_path / "staging")])


def test_early_stopping_counts_from_the_untrained_model(fit, one_weight, config) -> None:
    scores = [0.5, 0.4, 0.4, 0.9]
    trainer = fit(one_weight(scores), [FirstValidation(), *early_stopping(config)], max_epochs=5)
    assert trainer.global_step == 6


def test_no_early_stopping_without_patience(config) -> None:
    config.trainer.early_stopping_patience = None
    assert early_stopping(config) == []
