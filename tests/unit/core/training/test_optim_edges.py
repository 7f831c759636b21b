"""Heads that train or not, mixed groups, and schedules at their ends."""

from __future__ import annotations

import logging
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from sam2vt.config import LossConfig, OptimizerConfig, SchedulerConfig
from sam2vt.core.training import optim
from sam2vt.core.training.optim import (
    build_optimizer,
    build_scheduler,
    clip_gradients,
    freeze_unreached_heads,
    gradient_norm,
    hold_updates,
    learning_rate,
    parameter_groups,
)
from sam2vt.errors import ConfigError

IOU, SCORE = "sam_mask_decoder.iou_prediction_head.", "sam_mask_decoder.pred_obj_score_head."


def model(*names: str) -> Any:
    """Stands in for `SAM2Model`; `names` are the parts that train, of a decoder with two heads."""
    network = nn.Module()
    network.sam_mask_decoder = nn.Module()
    for name in ("iou_prediction_head", "iou_prediction_heads", "pred_obj_score_head", "mask_tokens"):
        layer = nn.Linear(1, 1, bias=False).requires_grad_(name in names)
        setattr(network.sam_mask_decoder, name, layer)
    modes: list[bool] = []

    def count() -> int:
        return sum(p.requires_grad for p in network.parameters())

    return SimpleNamespace(
        network=network,
        trainable_modules=names,
        count_trainable_parameters=count,
        train=modes.append,
        training=True,
        modes=modes,
    )


@pytest.mark.parametrize(
    ("iou_head", "presence", "frozen"),
    [
        (0.0, 0.0, [f"{IOU}weight", f"{SCORE}weight"]),
        (0.5, 0.0, [f"{SCORE}weight"]),
        (0.0, 0.5, [f"{IOU}weight"]),
        (0.5, 1.0, []),
    ],
)
def test_heads_without_a_loss_are_frozen(
    iou_head: float, presence: float, frozen: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    parts = ("iou_prediction_head", "iou_prediction_heads", "pred_obj_score_head", "mask_tokens")
    given, loss = model(*parts), LossConfig(iou_head_weight=iou_head, presence_weight=presence)
    with caplog.at_level(logging.INFO):
        assert freeze_unreached_heads(given, loss) == frozen
    still = [name for name, parameter in given.network.named_parameters() if not parameter.requires_grad]
    assert still == frozen
    assert given.modes == [True]
    assert len(caplog.messages) == len(frozen)
    if not presence:
        assert caplog.messages[-1] == f"loss.presence_weight is 0: {SCORE[:-1]} does not train"


def test_what_did_not_train_is_not_frozen_again_and_nothing_left_is_refused() -> None:
    loss = LossConfig(iou_head_weight=0.0, presence_weight=0.0)
    assert freeze_unreached_heads(model("iou_prediction_head", "mask_tokens"), loss) == [f"{IOU}weight"]
    with pytest.raises(
        ConfigError, match=r"\['iou_prediction_head'\] with loss.iou_head_weight=0.0, loss.pres"
    ):
        freeze_unreached_heads(model("iou_prediction_head"), loss)


def test_only_optimizers_that_are_fused_throughout_can_hold() -> None:
    held = torch.ones(())
    for fused, holds in (((True, True), True), ((True, False), False), ((False, False), False)):
        optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))]} for _ in fused], lr=1.0)
        for group, each in zip(optimizer.param_groups, fused):
            group["fused"] = each
        assert hold_updates(optimizer, held) is holds
        assert getattr(optimizer, "found_inf", None) is (held if holds else None)


def test_a_network_without_parameters_and_one_without_blocks() -> None:
    with pytest.raises(ConfigError, match="no parameter trains"):
        build_optimizer(nn.Module(), OptimizerConfig())
    network = nn.Module()
    network.image_encoder = nn.Module()
    network.image_encoder.trunk = nn.Module()
    network.image_encoder.trunk.patch_embed = nn.Linear(1, 1, bias=False)
    (group,) = parameter_groups(network, OptimizerConfig(lr=1.0, layer_decay=0.25))
    assert group["lr"] == 0.25  # one step below the neck


def test_the_fastest_group_comes_first_and_scaling_is_left_to_lightning() -> None:
    network = nn.Module()
    network.image_encoder, network.head = nn.Linear(2, 2), nn.Linear(2, 2)
    config = OptimizerConfig(lr=1.0, encoder_lr=0.5, weight_decay=0.25)
    optimizer = build_optimizer(network, config)
    found = [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert found == [(1.0, 0.25), (1.0, 0.0), (0.5, 0.25), (0.5, 0.0)]
    assert optimizer._step_supports_amp_scaling is False
    assert all(group["fused"] for group in optimizer.param_groups)


def test_parameters_on_other_devices_are_not_fused() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1, device="meta"))
    for kind in ("adamw", "sgd"):
        optimizer = build_optimizer(network, OptimizerConfig(type=kind))
        assert not any(group["fused"] for group in optimizer.param_groups)


def test_rates_fall_from_the_neck_to_the_patches() -> None:
    config, trunk = OptimizerConfig(lr=8.0, layer_decay=0.5), "image_encoder.trunk."
    names = [f"{trunk}blocks.{block}.x" for block in (1, 0)]
    names = ["image_encoder.neck.x", f"{trunk}pos_embed", *names, f"{trunk}patch_embed.x", "memory.x"]
    assert [learning_rate(name, 2, config) for name in names] == [8, 8, 4, 2, 1, 8]


def rates(config: SchedulerConfig, steps: int, total: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = build_scheduler(optimizer, config, total)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_a_warm_up_that_is_the_whole_schedule_is_followed_by_its_end() -> None:
    config = SchedulerConfig(warmup_steps=2, T_max=2, eta_min=0.125)
    assert rates(config, 5, total=9) == pytest.approx([0.25, 0.5, 0.5, 0.125, 0.125])


def test_a_cosine_by_hand() -> None:
    """Thirds of a half turn after one step of warm-up: 1, 3/4, 1/4 and 0 of the way above eta_min."""
    config = SchedulerConfig(warmup_steps=1, T_max=4, eta_min=0.1)
    assert rates(config, 6, total=99) == pytest.approx([0.5, 0.5, 0.4, 0.2, 0.1, 0.1])


def test_an_end_above_the_rate_leaves_it_where_it_is() -> None:
    assert rates(SchedulerConfig(T_max=4, eta_min=1.0), 6, total=4) == pytest.approx([0.5] * 6)


def with_gradients(*gradients: float) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in gradients]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = torch.tensor([gradient])
    return parameters


@pytest.mark.skipif(not optim._HAS_SEPARATE_NORM, reason="before torch 2.6 clipping finds the norm itself")
def test_a_known_norm_is_not_computed_again_and_infinite_gradients_stay() -> None:
    parameters = with_gradients(3.0, 4.0)
    clip_gradients(parameters, 1.0, torch.tensor(10.0))
    assert [parameter.grad.item() for parameter in parameters] == pytest.approx([0.3, 0.4], rel=1e-5)
    parameters = with_gradients(math.inf, 4.0)
    assert gradient_norm(parameters).item() == math.inf
    assert [parameter.grad.item() for parameter in parameters] == [math.inf, 4.0]


def test_parameters_without_gradients_have_no_norm() -> None:
    parameters = [*with_gradients(3.0, 4.0), nn.Parameter(torch.ones(1))]
    assert gradient_norm(parameters).item() == 5
    elsewhere = nn.Parameter(torch.zeros(1, device="meta"))
    assert gradient_norm([elsewhere, parameters[-1]]).device.type == "meta"
    norm = gradient_norm(parameters[-1:])
    assert (norm.item(), norm.shape) == (0, ())
