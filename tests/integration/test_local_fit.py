"""The whole local path: data on disk, training, validation, and what lies in the run folder afterwards."""

from __future__ import annotations

import copy
import csv
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sam2vt.config import Config
from sam2vt.core.model.export import export_to_transformers
from sam2vt.core.prediction.weights import open_weights, zero_shot
from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
from sam2vt.logs import Lines
from sam2vt.train import train, trainer_kwargs
from tests.unit.core.model.wide_nano import wide_export


@pytest.fixture(scope="module")
def fitted(tiny_config, tmp_path_factory) -> tuple[Config, L.Trainer]:
    config = copy.deepcopy(tiny_config)
    config.output_dir = str(tmp_path_factory.mktemp("runs") / "run")
    config.trainer.max_epochs = 2
    config.trainer.logger = True
    config.trainer.num_overlay_videos = 1
    with saying(Path(config.output_dir).parent / "said"):
        return config, train(config)


@contextmanager
def saying(path: Path) -> Iterator[None]:
    """Write what all packages log, and warn of, into a file as a run prints it."""
    root, handler = logging.getLogger(), logging.FileHandler(path)
    handler.setFormatter(Lines())
    root.addHandler(handler)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        try:
            yield
        finally:
            root.removeHandler(handler)
            handler.close()
            with path.open("a") as file:
                file.writelines(f"{each.filename}:{each.lineno}: {each.message}\n" for each in warned)


def test_a_run_says_what_matters_and_ends_with_its_summary(fitted) -> None:
    config, _ = fitted
    folder = Path(config.output_dir)
    text = (folder.parent / "said").read_text()
    for unwanted in ("Tip", "GPU available", "deprecated", "v_num", "lightning", "site-packages"):
        assert unwanted not in text, text
    first = text.splitlines()[0]
    assert first[8:] == (
        f" training sam2.1_nano from random weights on {config.dataset.data_path} into {folder}"
    )
    table = {line[:18].strip(): line[18:] for line in text.split("done\n")[1].splitlines()}
    assert {"before training", "after (best)", "after (last)", "first mask held"} <= table.keys()
    for name in ("checkpoint", "curves", "numbers", "overlays", "run folder"):
        assert Path(table[name]).exists(), name
    assert "very videos that were trained on" in text
    assert f"evaluate {folder} other_videos" in text
    assert "--against" not in text  # random weights are no model to compare with


def test_the_run_folder(fitted) -> None:
    config, _ = fitted
    folder = Path(config.output_dir)
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {
        "config.yaml",
        "preview.png",
        "results.csv",
        "results.png",
        "results.svg",
        "val_scores.csv",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "overlays/sample_00.png",
        "overlays/sample_00.gif",
    } <= names
    assert any(name.startswith("tensorboard/events") for name in names)


def test_the_commit_of_weights_on_the_hub_is_recorded(tiny_config, tmp_path, monkeypatch) -> None:
    """In the run's settings and in its checkpoints; the branch may have moved when somebody looks."""
    commit = "c" * 40
    file = tmp_path / "snapshots" / commit / "base.pt"
    file.parent.mkdir(parents=True)
    torch.save({"model": SAM2LightningModule(tiny_config).model.load("cpu").network.state_dict()}, file)
    hub = SimpleNamespace(hf_hub_download=lambda *_, **__: str(file))
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    config = copy.deepcopy(tiny_config)
    config.output_dir, config.model.checkpoint_path = str(tmp_path / "run"), "hf://me/mine@main/base.pt"
    config.trainer.max_steps, config.trainer.limit_val_batches = 1, 0
    train(config)
    expected = f"hf://me/mine@{commit}/base.pt"
    assert OmegaConf.load(f"{config.output_dir}/config.yaml").model.checkpoint_path == expected
    held = torch.load(config.checkpoint_dir / "last.ckpt", weights_only=True)["hyper_parameters"]["config"]
    assert held["model"]["checkpoint_path"] == expected
    assert CheckpointStore(str(config.checkpoint_dir)).newest().config["model"]["checkpoint_path"] == expected


def test_a_run_starts_from_a_folder_for_transformers(tiny_config, tmp_path) -> None:
    config = copy.deepcopy(tiny_config)
    _, weights = wide_export(tmp_path, config.model.image_size)
    folder = export_to_transformers(str(weights), tmp_path / "tuned")
    config.model.checkpoint_path, config.model.config_path = str(folder), str(folder / "config.json")
    config.output_dir, config.trainer.max_steps = str(tmp_path / "run"), 1
    train(config)
    start = OmegaConf.load(f"{config.output_dir}/config.yaml").model.checkpoint_path
    assert start == f"{folder}/model.safetensors"
    found = open_weights(config.output_dir, device="cpu")
    assert zero_shot(found).path == start
    back = export_to_transformers(found.path, tmp_path / "again")
    assert (back / "config.json").read_bytes() == (folder / "config.json").read_bytes()


def test_tensorboard_has_the_steps_of_the_results_and_the_overlays(fitted) -> None:
    config, _ = fitted
    found = EventAccumulator(f"{config.output_dir}/tensorboard").Reload()
    names = set(found.Tags()["scalars"])
    assert {"val/J&F", "val/loss", "train/loss", "train/lr", "train/clips_per_second"} <= names
    assert not names & {"hp_metric", "epoch", "step"}
    assert [event.step for event in found.Scalars("val/J&F")] == [0, 3, 6]
    every = config.trainer.log_every_n_steps
    assert [event.step for event in found.Scalars("train/loss")] == [n for n in range(1, 7) if n % every == 0]
    best = torch.load(config.checkpoint_dir / "best.ckpt", weights_only=True)["global_step"]
    assert found.Tags()["images"] == ["overlays/sample_00"]
    assert [event.step for event in found.Images("overlays/sample_00")] == [best]


def test_results_have_a_row_a_validation_from_step_0_on(fitted) -> None:
    config, trainer = fitted
    with open(Path(config.output_dir) / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "3", "6"]
    assert trainer.global_step == 6
    for row in rows:
        assert 0 <= float(row["val/J"]) <= 1
        assert float(row["val/J&F"]) == pytest.approx((float(row["val/J"]) + float(row["val/F"])) / 2)
        assert row["val/J_hold_first"] == rows[0]["val/J_hold_first"]
        assert float(row["val/loss"]) > 0
    assert rows[0]["train/loss"] == ""
    assert float(rows[1]["train/loss"]) > float(rows[2]["train/loss"]) > 0


def test_scores_by_object_agree_with_the_mean(fitted) -> None:
    config, trainer = fitted
    with open(Path(config.output_dir) / "val_scores.csv") as file:
        rows = list(csv.DictReader(file))
    objects = [row for row in rows if row["object"] != "mean"]
    assert {row["video"] for row in objects} == {"sample_00", "sample_01", "sample_02"}
    mean = sum(float(row["J"]) for row in objects) / len(objects)
    assert float(trainer.callback_metrics["val/J"]) == pytest.approx(mean, abs=1e-6)
    assert "J_hold_first" in rows[0]


def test_checkpoints_load_as_plain_tensors_and_validate_the_same(fitted) -> None:
    config, trainer = fitted
    last = torch.load(config.checkpoint_dir / "last.ckpt", weights_only=True)
    best = torch.load(config.checkpoint_dir / "best.ckpt", weights_only=True)
    assert last["global_step"] == 6
    assert best["global_step"] in (3, 6)
    module = SAM2LightningModule.load_from_checkpoint(config.checkpoint_dir / "last.ckpt")
    again = L.Trainer(**{**trainer_kwargs(config), "logger": False, "enable_checkpointing": False})
    (metrics,) = again.validate(module, datamodule=SAM2LightningDataModule(config), verbose=False)[:1]
    for name in ("val/J&F", "val/loss"):
        assert metrics[name] == pytest.approx(float(trainer.callback_metrics[name]), abs=1e-6)


class Report(L.Callback):
    """Writes what each rank has after validation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def setup(self, trainer, pl_module, stage) -> None:
        torch.set_num_threads(1)  # a forked process has not its parent's threads

    def on_validation_end(self, trainer, pl_module) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        report = {
            "metrics": metrics,
            "scores": [list(score) for score in pl_module.last_scores],
            "best_val_loss": pl_module.best_val_loss,
            "world_size": dist.get_world_size() if dist.is_initialized() else 1,
        }
        (self.folder / f"{trainer.world_size}-{trainer.global_rank}.json").write_text(json.dumps(report))


def test_two_processes_validate_as_one(tiny_config, tmp_path) -> None:
    """Three videos over two ranks: one has a video and a batch of clips less than the other."""
    for devices in (1, 2):
        settings = {
            **trainer_kwargs(tiny_config),
            "devices": devices,
            "strategy": "ddp_fork" if devices > 1 else "auto",
            "enable_checkpointing": False,
        }
        module, data = SAM2LightningModule(tiny_config), SAM2LightningDataModule(tiny_config)
        L.Trainer(callbacks=[Report(tmp_path)], **settings).validate(module, datamodule=data, verbose=False)
    single, *ranks = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("1-0", "2-0", "2-1"))
    assert [report.pop("world_size") for report in ranks] == [2, 2]
    del single["world_size"]
    assert len({score[0] for score in single["scores"]}) == 3
    assert ranks[0] == ranks[1] == single


class NothingOnRankZero(SAM2LightningModule):
    """On rank 0 all objects are given by their masks on the last frame: nothing is left to predict."""

    def training_step(self, batch, batch_idx):
        if self.global_rank == 0:
            last = batch["masks"].shape[1] - 1
            batch["masks"][:, :last] = False
            batch["prompts"] = [
                [
                    {"type": "mask", "mask": masks[last, n], "object_index": n, "frame_index": last}
                    for n in range(masks.shape[1])
                    if masks[last, n].any()
                ]
                for masks in batch["masks"]
            ]
        loss = super().training_step(batch, batch_idx)
        assert self.global_rank or loss.item() == 0
        return loss


class KeepWeights(L.Callback):
    """Writes what each rank ends with, and what it has logged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def setup(self, trainer, pl_module, stage) -> None:
        torch.set_num_threads(1)  # a forked process has not its parent's threads

    def on_train_start(self, trainer, pl_module) -> None:
        self.before = {name: value.clone() for name, value in pl_module.state_dict().items()}

    def on_train_end(self, trainer, pl_module) -> None:
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        kept = {"before": self.before, "after": pl_module.state_dict(), "logged": logged}
        torch.save(kept, self.folder / f"{trainer.global_rank}.pt")


def test_two_processes_accumulate_as_one_large_batch(tiny_config, tmp_path) -> None:
    """An update of two ranks with two clips each, and one of a rank with all four of them."""
    ends = []
    for devices, batch_size, accumulated in ((2, 1, 2), (1, 4, 1)):
        config = copy.deepcopy(tiny_config)
        config.dataset.prompt_types = ["point", "mask"]
        config.model.memory_dropout, config.dataset.clips_per_video = 0.0, 4
        config.dataset.batch_size, config.trainer.accumulate_grad_batches = batch_size, accumulated
        # A step by the gradient itself.
        config.optimizer.type, config.optimizer.betas, config.optimizer.lr = "sgd", (0.0, 0.999), 1.0
        config.trainer.gradient_clip_val = 0.0
        config.trainer.max_steps, config.trainer.limit_val_batches = 1, 0
        strategy = "ddp_fork_find_unused_parameters_true" if devices > 1 else "auto"
        settings = {**trainer_kwargs(config), "devices": devices, "strategy": strategy}
        folder = tmp_path / str(devices)
        folder.mkdir()
        trainer = L.Trainer(callbacks=[KeepWeights(folder)], **{**settings, "enable_checkpointing": False})
        trainer.fit(SAM2LightningModule(config), datamodule=SAM2LightningDataModule(config))
        ends.append(torch.load(folder / "0.pt"))
    two, one = ends
    changes = [{k: v - end["before"][k] for k, v in end["after"].items()} for end in ends]
    largest = max(float(change.abs().max()) for change in changes[1].values())
    assert largest > 1e-3
    for name, change in changes[1].items():
        assert float((changes[0][name] - change).abs().max()) <= 1e-6 * max(1.0, largest), name
    assert two["logged"]["train/loss"] == pytest.approx(one["logged"]["train/loss"], rel=1e-5)


def test_a_rank_with_nothing_to_predict_trains_along(tiny_config, tmp_path) -> None:
    config = copy.deepcopy(tiny_config)
    config.trainer.max_steps = config.trainer.limit_train_batches = 1
    config.trainer.limit_val_batches = 0
    settings = {
        **trainer_kwargs(config),
        "devices": 2,
        "strategy": "ddp_fork_find_unused_parameters_true",
        "enable_checkpointing": False,
    }
    trainer = L.Trainer(callbacks=[KeepWeights(tmp_path)], **settings)
    trainer.fit(NothingOnRankZero(config), datamodule=SAM2LightningDataModule(config))
    zero, one = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert zero["after"].keys() == one["after"].keys()
    assert all(torch.equal(value, one["after"][name]) for name, value in zero["after"].items())
    assert any(not torch.equal(value, zero["before"][name]) for name, value in zero["after"].items())
    assert zero["logged"]["train/loss"] == one["logged"]["train/loss"] > 0  # the mean over both
