"""A training of low-rank adapters: its files, its resume, and what reads them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from sam2vt.config import Config, LoraConfig
from sam2vt.core.model.checkpoints import load_weights
from sam2vt.core.model.export import export_checkpoint
from sam2vt.core.model.lora import is_adapter
from sam2vt.core.model.sam2 import build_from_config
from sam2vt.core.prediction.weights import open_weights, zero_shot
from sam2vt.core.storage.disk import ADAPTER
from sam2vt.core.training.callbacks.averaging import TRAINED, AverageWeights
from sam2vt.core.training.checkpoints.resume import checkpoint_to_resume
from sam2vt.errors import CheckpointError

from .test_resume import run

pytestmark = pytest.mark.usefixtures("peft")
STEPS = 5


@pytest.fixture
def config(tiny_config: Config, tmp_path: Path) -> Config:
    config = copy.deepcopy(tiny_config)
    torch.manual_seed(3)
    base = build_from_config(config.model).load("cpu")
    torch.save({"model": base.network.state_dict()}, tmp_path / "base.pt")
    config.model.checkpoint_path = str(tmp_path / "base.pt")
    config.model.trainable_modules = []
    config.model.lora = LoraConfig(rank=8)
    config.output_dir = str(tmp_path / "run")
    config.trainer.max_steps, config.trainer.max_epochs = STEPS, -1
    config.trainer.limit_val_batches = 1
    return config


def bytes_of(state: Mapping[str, Any]) -> int:
    return sum(value.nbytes for value in state.values())


def weights_of(path: Path, **how: Any) -> dict[str, torch.Tensor]:
    return open_weights(str(path), device="cpu", **how).model.network.state_dict()


def test_files_hold_adapters_and_read_as_merged_weights(config: Config, tmp_path: Path) -> None:
    config.model.lora.rank = 16  # with less, names weigh as much as the smallest network's adapters
    run(config)
    last = config.checkpoint_dir / "last.ckpt"
    content = torch.load(last, weights_only=True)
    adapters = {name: value for name, value in content["state_dict"].items() if is_adapter(name)}
    assert sum(bool(value.any()) for value in adapters.values()) > 0.9 * len(adapters)  # B begins at 0
    # Besides, only buffers: the base has the rest.
    assert bytes_of(content["state_dict"]) <= 1.01 * bytes_of(adapters)
    assert last.with_suffix(ADAPTER).stat().st_size <= 1.1 * bytes_of(adapters)
    assert last.stat().st_size <= 3.3 * bytes_of(adapters)
    for alias in ("best", "last"):
        assert (config.checkpoint_dir / f"{alias}{ADAPTER}").is_file()
    steps = {path.stem for path in config.checkpoint_dir.glob("step_*.ckpt")}
    assert {path.stem for path in config.checkpoint_dir.glob(f"step_*{ADAPTER}")} == steps

    merged = weights_of(last)
    base = torch.load(tmp_path / "base.pt", weights_only=True)["model"]
    assert merged.keys() == base.keys()
    assert not all(torch.equal(merged[name], base[name]) for name in base)
    for place in (
        last.with_suffix(ADAPTER),
        export_checkpoint(last, tmp_path / "tuned.pt").with_suffix(".pt"),
    ):
        other = weights_of(place)
        assert all(torch.equal(other[name], merged[name]) for name in merged), place
    start = zero_shot(open_weights(str(last), device="cpu")).model.network.state_dict()
    assert all(torch.equal(start[name], base[name]) for name in base)


def test_a_resumed_run_goes_on_to_the_same_weights(config: Config, tmp_path: Path) -> None:
    config.model.lora.dropout = 0.1
    clips, whole = run(config)
    config.output_dir = str(tmp_path / "second")
    first, _ = run(config, stop_at=2)
    rest, weights = run(config, resume=config.checkpoint_dir / "last.ckpt")
    assert first + rest == clips
    assert [name for name in whole if not torch.equal(whole[name], weights[name])] == []


def test_another_base_is_refused(config: Config, tmp_path: Path) -> None:
    run(config, stop_at=1)
    adapter = config.checkpoint_dir / f"last{ADAPTER}"
    other = torch.load(tmp_path / "base.pt", weights_only=True)
    other["model"]["maskmem_tpos_enc"] += 1
    torch.save(other, tmp_path / "other.pt")
    with pytest.raises(
        CheckpointError, match=r"rest is in .*base\.pt with sha256 .*other\.pt is another file"
    ):
        open_weights(str(adapter), device="cpu", base=str(tmp_path / "other.pt"))
    config.model.checkpoint_path = str(tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="is another file"):
        run(config, resume=config.checkpoint_dir / "last.ckpt")


def test_adapters_start_from_merged_ones(config: Config, tmp_path: Path) -> None:
    run(config)
    first = config.checkpoint_dir / f"last{ADAPTER}"
    again = copy.deepcopy(config)
    again.model.checkpoint_path, again.output_dir = str(first), str(tmp_path / "again")
    run(again)
    network = build_from_config(config.model).load("cpu", weights=False).network
    load_weights(network, str(again.checkpoint_dir / f"last{ADAPTER}"))
    merged = weights_of(again.checkpoint_dir / "last.ckpt")
    own = {name.replace(".base_layer.", "."): v for name, v in network.state_dict().items()}
    assert all(torch.equal(own[name], merged[name]) for name in merged)


def test_an_adapter_file_holds_the_average_if_there_is_one(config: Config) -> None:
    run(config, more=[AverageWeights(0.8)])
    last = config.checkpoint_dir / "last.ckpt"
    trained = torch.load(last, weights_only=True)[TRAINED]
    assert all(map(is_adapter, trained))
    merged, adapter = weights_of(last), weights_of(last.with_suffix(ADAPTER))
    assert all(torch.equal(adapter[name], merged[name]) for name in merged)
    for name, value in torch.load(last, weights_only=True)["state_dict"].items():
        assert name not in trained or not trained[name].any() or not torch.equal(value, trained[name]), name


def test_a_checkpoint_without_a_base_holds_all_and_has_no_adapter_file(config: Config) -> None:
    config.model.checkpoint_path = None
    run(config, stop_at=2)
    last = config.checkpoint_dir / "last.ckpt"
    assert not last.with_suffix(ADAPTER).exists()
    first = weights_of(last)
    run(config, resume=last)
    assert not all(torch.equal(value, first[name]) for name, value in weights_of(last).items())


def test_an_adapter_file_alone_is_no_checkpoint_to_resume(config: Config) -> None:
    run(config, stop_at=1)
    config.resume = str(config.checkpoint_dir / f"last{ADAPTER}")
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        checkpoint_to_resume(config)
