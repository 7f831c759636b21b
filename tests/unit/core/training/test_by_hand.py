"""The Lightning classes without a Trainer, as in a plain loop of PyTorch."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.trainer.states import RunningStage
from torch.utils.data import DataLoader

from sam2vt.core.data.dataset import create_dataloader
from sam2vt.core.evaluation.jf import MONITOR
from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
from sam2vt.train import create_trainer

SHARE = {"rank": 1, "world_size": 2}


@pytest.fixture
def module(config) -> SAM2LightningModule:
    config.model.trainable_modules = ["mask_decoder"]
    module = SAM2LightningModule(config)
    module.setup()
    return module


@pytest.fixture
def data(config) -> SAM2LightningDataModule:
    data = SAM2LightningDataModule(config)
    data.setup()
    return data


def test_a_plain_loop_trains_and_validates(module, data) -> None:
    made = module.configure_optimizers()
    assert set(made) == {"optimizer", "lr_scheduler"}
    before = module.model.network.sam_mask_decoder.mask_tokens.weight.clone()
    batch = next(iter(data.train_dataloader()))
    loss = module.training_step(batch, 0)
    assert loss.shape == ()
    assert torch.equal(module.components["total"], loss.detach())
    loss.backward()
    made["optimizer"].step()
    made["lr_scheduler"]["scheduler"].step()
    assert not torch.equal(before, module.model.network.sam_mask_decoder.mask_tokens.weight)

    module.eval()
    clips, videos = data.val_dataloader()
    with torch.no_grad():
        losses = [module.validation_step(batch, i) for i, batch in enumerate(clips)]
        scores = module.validation_step(next(iter(videos)), 0, 1)
        assert module.validation_step(None, 0) is None
    assert all(loss.shape == () for loss in losses)
    assert scores.ndim == 1
    assert scores.nanmean().item() >= 0
    module.on_validation_epoch_end()
    assert module.best_val_loss == pytest.approx(torch.stack(losses).mean().item(), rel=0.5)
    assert {score.video_id for score in module.last_scores} == {data.val_records[0].video_id}
    module.on_train_end()


def test_loaders_before_setup(config) -> None:
    data = SAM2LightningDataModule(config)
    for loader in (data.train_dataloader, data.val_dataloader):
        with pytest.raises(RuntimeError, match=r"call setup\('fit'\) first"):
            loader()


@pytest.mark.parametrize(
    ("settings", "max_steps", "rates", "warns"),
    [
        ({"T_max": 4}, -1, [1.0, 0.5, 0.0], False),
        ({}, 4, [1.0, 0.5, 0.0], False),
        ({"warmup_steps": 2}, -1, [0.5, 1.0, 1.0], True),
        ({"type": "step", "step_size": 2, "gamma": 0.1}, -1, [1.0, 0.1, 0.01], False),
        ({"enabled": False}, -1, [1.0, 1.0, 1.0], False),
    ],
)
def test_the_schedule_by_hand(module, caplog, settings, max_steps, rates, warns) -> None:
    config = module.config
    config.trainer.max_steps = max_steps
    for name, value in settings.items():
        setattr(config.scheduler, name, value)
    made = module.configure_optimizers()
    assert ("lr_scheduler" in made) == config.scheduler.enabled
    seen = []
    for _ in range(5):
        seen.append(made["optimizer"].param_groups[0]["lr"] / config.optimizer.lr)
        made["optimizer"].step()
        if "lr_scheduler" in made:
            made["lr_scheduler"]["scheduler"].step()
    assert seen[::2] == pytest.approx(rates, abs=1e-9)
    assert ("the learning rate stays constant" in caplog.text) == warns


def test_each_pass_is_an_epoch(data) -> None:
    data.config.dataset.num_workers = 0
    loader = data.train_dataloader()
    passes = [[(b["video_id"], b["frame_indices"]) for b in loader] for _ in range(2)]
    assert passes[0] != passes[1]


def test_clips_alone_as_validation_give_a_loss(module, config, small_videos) -> None:
    """Without whole videos there is no J&F, and the run does not end because of it."""
    shape = {"num_workers": 0, "image_size": (64, 64), "video_clip_length": 2}
    train, val = (
        create_dataloader("auto", small_videos, ["box"], **shape, **more) for more in ({}, {"epoch": 0})
    )
    config.trainer.max_steps = 1
    trainer = create_trainer(config)
    trainer.fit(module, train, val)
    assert trainer.global_step == 1
    assert math.isfinite(trainer.callback_metrics["val/loss"])
    assert MONITOR not in trainer.callback_metrics
    assert (config.checkpoint_dir / "last.ckpt").exists()


def test_targets_on_a_device_are_refused_at_logged_steps_alone(
    module, config, small_videos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss does not look at them there; a logged step waits for the device anyway."""
    monkeypatch.setattr("sam2vt.core.training.loss.check_targets", lambda _: None)  # as on a device
    shape = {"num_workers": 0, "image_size": (64, 64), "video_clip_length": 2}
    loader = create_dataloader("auto", small_videos, ["box"], **shape)
    batches = [{**batch, "masks": batch["masks"].float() * 255} for batch in loader]
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=3,
        log_every_n_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=config.output_dir,
    )
    with pytest.raises(ValueError, match="target_masks: values from 0 to 255"):
        trainer.fit(module, DataLoader(batches, batch_size=None))
    assert trainer.global_step == 1  # the second step is the first that is logged


@pytest.mark.parametrize("by", ["loader", "data module"])
def test_two_ranks_of_lightning_s_see_each_clip_once(config, small_videos, by: str) -> None:
    """By what Lightning makes of the loaders of a rank before it iterates them."""
    shape = {"num_workers": 0, "image_size": (64, 64), "video_clip_length": 2, "clips_per_video": 2}
    config.dataset.clips_per_video = 2

    def clips_of(rank: int, world_size: int) -> list[Any]:
        trainer = L.Trainer(
            accelerator="cpu", devices=world_size, strategy="ddp", logger=False, enable_progress_bar=False
        )
        environment = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
        environment.set_world_size(world_size)
        environment.set_global_rank(rank)
        if by == "loader":
            ranks = {"rank": rank, "world_size": world_size}
            loader = create_dataloader("auto", small_videos, ["box"], **shape, **ranks)
        else:
            data = SAM2LightningDataModule(config)
            data.trainer = trainer
            data.setup()
            loader = data.train_dataloader()
        assert (trainer.world_size, trainer.global_rank) == (world_size, rank)
        prepared = trainer._data_connector._prepare_dataloader(loader, True, RunningStage.TRAINING)
        return list(prepared.sampler)

    whole = clips_of(0, 1)
    shares = [clips_of(rank, 2) for rank in range(2)]
    assert len(whole) == 6
    assert [len(share) for share in shares] == [3, 3]
    assert set(shares[0]) | set(shares[1]) == set(whole)


def test_lightning_does_not_divide_the_clips_once_more(config, small_videos) -> None:
    """Of a Trainer of the user's own, whose default is to replace samplers."""
    trainer = L.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False)
    replaces = trainer._data_connector._requires_distributed_sampler
    shape = {"num_workers": 0, "image_size": (64, 64), "video_clip_length": 2}
    whole, share = (create_dataloader("auto", small_videos, ["box"], **shape, **more) for more in ({}, SHARE))
    assert replaces(whole)
    assert not replaces(share)
    data = SAM2LightningDataModule(config)
    data.trainer = trainer
    data.setup()
    assert not any(replaces(loader) for loader in [data.train_dataloader(), *data.val_dataloader()])


def test_targets_out_of_range_are_refused_at_a_logged_step(module, config, small_videos) -> None:
    shape = {"num_workers": 0, "image_size": (64, 64), "video_clip_length": 2}
    loader = create_dataloader("auto", small_videos, ["box"], **shape)
    batch = next(iter(loader))
    batch["masks"] = batch["masks"].float() * 255
    with pytest.raises(ValueError, match="target_masks: values from 0 to 255; allowed are bool, or numbers"):
        module.training_step(batch, 0)
