"""The batches of an update against one batch of all their clips."""

from __future__ import annotations

import copy
import logging
import math
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.training.callbacks.log_lines import LogLines
from sam2vt.core.training.loss import batch_loss
from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
from sam2vt.core.training.updates import RECENT, UpdateMeans, counted_by_update, counted_together
from sam2vt.core.types import Batch
from sam2vt.train import build_trainer


@pytest.fixture
def exact(config):
    """Without dropout, whose draws depend on how many objects there are."""
    config.model.memory_dropout = 0.0
    config.dataset.video_clip_length = 3
    config.dataset.prompt_types = ["point", "box", "mask"]
    config.optimizer.type, config.optimizer.betas = "sgd", (0.0, 0.999)
    config.trainer.gradient_clip_val, config.trainer.limit_val_batches = 0.0, 0
    return config


def gradients_of(model, criterion, *batches: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    """(loss, gradients) added up over the batches."""
    model.zero_grad()
    losses = [batch_loss(model, criterion, batch)[0] for batch in batches]
    for loss in losses:
        loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return float(sum(losses)), found


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """To 1e-6 of the largest gradient."""
    largest = max(1.0, *(float(g.abs().max()) for g in expected.values()))
    for name, gradient in expected.items():
        difference = float((found.get(name, torch.zeros_like(gradient)) - gradient).abs().max())
        assert difference <= 1e-6 * largest, name


def clip_of(batch: Batch) -> Any:
    """The only clip of a batch."""
    return {name: value[0] for name, value in batch.items() if name != "update"}


def test_the_gradients_of_a_divided_batch_are_those_of_the_whole(exact) -> None:
    module, data = SAM2LightningModule(exact), SAM2LightningDataModule(exact)
    module.setup()
    data.setup()
    clips = [data.train_dataset[i] for i in range(3)]
    clips[1]["valid_masks"][1:] = False  # an object weighs more in a mean over few
    whole, expected = gradients_of(module.train(), module.criterion, collate_fn(clips))
    parts = [collate_fn(clips[:1]), collate_fn(clips[1:])]
    divided, found = gradients_of(module, module.criterion, *counted_together(parts))
    assert divided == pytest.approx(whole, rel=1e-6)
    assert_close(found, expected)
    assert float(sum(batch_loss(module, module.criterion, part)[0] for part in parts)) / 2 != pytest.approx(
        whole, rel=1e-3
    )


class Reference(L.Callback):
    """Compares the gradients of each update with those of one batch of its clips."""

    def __init__(self) -> None:
        self.clips: list[Any] = []
        self.losses: list[float] = []
        self.sizes: list[int] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.clips.append(clip_of(batch))

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        found = {name: p.grad for name, p in pl_module.model.named_parameters() if p.grad is not None}
        model = copy.deepcopy(pl_module.model)
        loss, expected = gradients_of(model, pl_module.criterion, collate_fn(self.clips))
        assert_close(found, expected)
        self.losses.append(loss)
        self.sizes.append(len(self.clips))
        self.clips = []


class Logged(L.Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer, *_) -> None:
        if "train/loss" in trainer.callback_metrics:
            self.losses.append(float(trainer.callback_metrics["train/loss"]))


@pytest.mark.parametrize(("accumulated", "sizes"), [(2, [2, 1, 2, 1]), (1, [1, 1, 1, 1, 1, 1])])
def test_accumulated_gradients_are_those_of_one_batch(exact, caplog, accumulated, sizes) -> None:
    """An epoch has three clips, its last update one of them. Losses are shown whole."""
    exact.trainer.accumulate_grad_batches, exact.trainer.max_epochs = accumulated, 2
    reference, logged = Reference(), Logged()
    trainer = build_trainer(exact, [reference, LogLines(seconds=0), logged])
    with caplog.at_level(logging.INFO, "sam2vt"):
        trainer.fit(SAM2LightningModule(exact), datamodule=SAM2LightningDataModule(exact))
    assert reference.sizes == sizes
    shown = [float(line.split("loss ")[1].split(",")[0]) for line in caplog.messages if "clips/s" in line]
    means = [sum(reference.losses[:number]) / number for number in range(1, len(sizes) + 1)]
    assert shown == pytest.approx(means, rel=5e-3)  # three digits
    assert logged.losses[-1] == pytest.approx(reference.losses[-1], rel=1e-5)


def test_a_single_batch_stays_as_it_is(exact) -> None:
    data = SAM2LightningDataModule(exact)
    data.setup()
    loader = data.train_dataloader()
    assert isinstance(loader, DataLoader)
    assert "update" not in next(iter(loader))


def batch_of(number: int) -> Batch:
    """A clip of two frames whose object is prompted by a point; it counts on `number` of them."""
    valid = torch.zeros(1, 2, 1, dtype=torch.bool)
    valid[:, :number] = True
    prompt = {"type": "point", "object_index": 0, "frame_index": 0}
    masks = torch.ones(1, 2, 1, 4, 4, dtype=torch.bool)
    return Batch(masks=masks, valid_masks=valid, prompts=[[prompt]])  # type: ignore[typeddict-item]


def test_an_update_ends_with_the_epoch_and_no_batch_beyond_is_read() -> None:
    batches = iter([batch_of(2), batch_of(1), batch_of(2), batch_of(1)])
    updates = [batch["update"] for batch in counted_by_update(batches, 2, left=3)]
    both = {"valid": 3, "present": 3, "pairs": 1, "batches": 2}
    assert updates == [both, both, {"valid": 2, "present": 2, "pairs": 1, "batches": 1}]
    assert len(list(batches)) == 1


def test_means_begin_anew_with_each_update() -> None:
    means = UpdateMeans()
    for value, completes, expected in (
        (1.0, False, 1.0),
        (3.0, True, 2.0),
        (5.0, True, 5.0),
        (7.0, True, 7.0),
    ):
        means.add({"total": torch.tensor(value)}, completes)
        assert float(means.values["total"]) == expected


def test_the_loss_that_is_shown_is_a_mean_over_the_last_updates() -> None:
    means = UpdateMeans()
    assert math.isnan(means.recent_loss)
    for value, completes, expected in ((1.0, False, math.nan), (3.0, True, 2.0), (6.0, True, 4.0)):
        means.add({"total": torch.tensor(value)}, completes)
        assert means.recent_loss == pytest.approx(expected, nan_ok=True)
    for _ in range(RECENT):
        means.add({"total": torch.tensor(5.0)}, True)
    assert means.recent_loss == 5.0
