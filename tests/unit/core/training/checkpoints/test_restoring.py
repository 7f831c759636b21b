from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sam2vt.config import Config, OptimizerConfig, SchedulerConfig
from sam2vt.core.training.checkpoints.restoring import TAKEN_OVER, AlreadyRead, follow_settings, taken_over
from sam2vt.core.training.optim import build_optimizer, build_scheduler


class Network(nn.Module):
    """An encoder block, whose rate is slowed down, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = nn.ModuleDict({"neck": nn.Linear(2, 2)})
        self.head = nn.Linear(2, 1)


def trained(network: nn.Module, config: OptimizerConfig, steps: int = 5) -> tuple[Any, Any]:
    optimizer = build_optimizer(network, config)
    scheduler = build_scheduler(optimizer, SchedulerConfig(warmup_steps=2), total_steps=10)
    for _ in range(steps):
        network.head(network.image_encoder["neck"](torch.ones(1, 2))).sum().backward()
        optimizer.step()
        scheduler.step()
    return optimizer, scheduler


def checkpoint_of(optimizer: Any, scheduler: Any) -> dict[str, Any]:
    return {
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [scheduler.state_dict()],
        "hyper_parameters": {"config": {}},
    }


WAS = OptimizerConfig(lr=1e-3, weight_decay=0.1)
NOW = OptimizerConfig(lr=4e-3, weight_decay=0.3)


def test_rates_are_those_of_a_run_that_had_them_from_the_start() -> None:
    torch.manual_seed(0)
    network = Network()
    content = taken_over(checkpoint_of(*trained(network, WAS)), Config(optimizer=NOW))
    follow_settings(content, network, NOW)
    optimizer, scheduler = trained(Network(), NOW)  # of which only the rates count
    expected = checkpoint_of(optimizer, scheduler)
    for ours, theirs in zip(*(c["optimizer_states"][0]["param_groups"] for c in (content, expected))):
        for name in ("lr", "initial_lr", "weight_decay"):
            assert ours[name] == pytest.approx(theirs[name])
    ours, theirs = content["lr_schedulers"][0], expected["lr_schedulers"][0]
    assert ours["base_lrs"] == pytest.approx(theirs["base_lrs"])
    assert ours["_last_lr"] == pytest.approx(theirs["_last_lr"])


def test_moments_are_kept() -> None:
    network = Network()
    optimizer, scheduler = trained(network, WAS)
    content = taken_over(checkpoint_of(optimizer, scheduler), Config(optimizer=NOW))
    follow_settings(content, network, NOW)
    state = content["optimizer_states"][0]["state"]
    assert state
    for index, moments in optimizer.state_dict()["state"].items():
        assert all(
            torch.equal(moments[name], state[index][name]) for name in ("exp_avg", "exp_avg_sq", "step")
        )


def test_a_run_s_own_checkpoint_stays_as_it_is() -> None:
    network = Network()
    content = checkpoint_of(*trained(network, WAS))
    before = repr(content)
    follow_settings(content, network, NOW)
    assert repr(content) == before


def test_the_checkpoint_says_that_it_is_of_the_new_configuration() -> None:
    given = {"hyper_parameters": {"config": {"seed": 1}, "other": 2}, "state_dict": {"a": 1}}
    taken = taken_over(given, Config(seed=9))
    assert taken["hyper_parameters"]["config"]["seed"] == 9
    assert taken["hyper_parameters"]["other"] == 2
    assert taken["state_dict"] == {"a": 1}
    assert taken[TAKEN_OVER]
    assert TAKEN_OVER not in given


def test_content_that_was_read_is_loaded_once_and_then_files(tmp_path) -> None:
    torch.save({"of": "the file"}, tmp_path / "a.ckpt")
    given = {"of": "memory"}
    io = AlreadyRead(given)
    assert io.load_checkpoint(tmp_path / "a.ckpt", weights_only=True) == {"of": "memory"}
    assert given == {}  # Lightning alone holds it now
    assert io.load_checkpoint(tmp_path / "a.ckpt", weights_only=True) == {"of": "the file"}
