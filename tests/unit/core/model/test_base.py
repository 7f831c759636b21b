"""A checkpoint of what trained finds the rest in its base, and no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from sam2vt.core.model.checkpoints import BASE, describe_base, find_base, load_weights, whole_state
from sam2vt.core.model.export import export_checkpoint
from sam2vt.core.prediction.weights import load_model
from sam2vt.errors import CheckpointError

from .conftest import NANO, SIZE, nano_model
from .test_export import write_training_checkpoint

TRAINED = "memory_encoder."


@pytest.fixture
def saved(tmp_path) -> tuple[Path, Path, torch.nn.Module]:
    """(base, checkpoint of what trained, the trained network)."""
    base, checkpoint = tmp_path / "given" / "base.pt", tmp_path / "run" / "last.ckpt"
    base.parent.mkdir()
    checkpoint.parent.mkdir()
    model = nano_model(seed=1)
    torch.save({"model": model.network.state_dict()}, base)
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if name.startswith(TRAINED):
                parameter += 1
    write_training_checkpoint(checkpoint, model)
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"] = {k: v for k, v in content["state_dict"].items() if f".{TRAINED}" in k}
    content[BASE] = describe_base(str(base))
    torch.save(content, checkpoint)
    return base, checkpoint, model.network


def assert_equal(state, network) -> None:
    own = network.state_dict()
    assert state.keys() == own.keys()
    assert not [name for name in own if not torch.equal(state[name], own[name])]


def test_loads_as_the_whole(saved) -> None:
    _, checkpoint, network = saved
    fresh = nano_model(seed=2).network
    load_weights(fresh, str(checkpoint))
    assert_equal(fresh.state_dict(), network)


def test_a_base_may_have_a_base_of_its_own(saved, tmp_path) -> None:
    _, first, network = saved
    second = tmp_path / "second.ckpt"
    changed = {"state_dict": {"model.network.no_mem_embed": torch.full((1, 1, 64), 3.0)}}
    torch.save({**changed, BASE: describe_base(str(first))}, second)
    state = whole_state(str(second))
    assert torch.equal(state.pop("no_mem_embed"), torch.full((1, 1, 64), 3.0))
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())


def test_a_moved_base_is_found_beside_the_checkpoint_or_where_it_is_said_to_be(saved, tmp_path) -> None:
    base, checkpoint, network = saved
    moved = tmp_path / "elsewhere.pt"
    base.rename(moved)
    with pytest.raises(
        CheckpointError, match=r"given/base.pt does not exist.*model\.checkpoint_path.*--base"
    ):
        whole_state(str(checkpoint))
    assert_equal(whole_state(str(checkpoint), str(moved)), network)
    assert_equal(load_model(str(checkpoint), device="cpu", base=str(moved)).network.state_dict(), network)
    yaml = export_checkpoint(checkpoint, tmp_path / "out.pt", base=str(moved))
    assert yaml.exists()
    assert_equal(whole_state(str(tmp_path / "out.pt")), network)
    shutil.copy(moved, checkpoint.parent / "base.pt")
    assert_equal(whole_state(str(checkpoint)), network)


def test_another_base_is_refused(saved, tmp_path) -> None:
    base, checkpoint, _ = saved
    other = tmp_path / "other.pt"
    torch.save({"model": nano_model(seed=5).network.state_dict()}, other)
    with pytest.raises(CheckpointError, match=r"with sha256 [0-9a-f]{64}; .*other\.pt is another file"):
        whole_state(str(checkpoint), str(other))
    shutil.copy(other, base)  # replaced in place
    with pytest.raises(CheckpointError, match="is another file"):
        whole_state(str(checkpoint))


def test_a_checkpoint_without_a_base_needs_none(tmp_path) -> None:
    assert find_base({"state_dict": {}}, "x", base="/not/there") is None
    model = nano_model(seed=1)
    torch.save({"model": model.network.state_dict()}, tmp_path / "whole.pt")
    loaded = load_model(str(tmp_path / "whole.pt"), device="cpu", config_path=NANO, image_size=SIZE)
    assert_equal(loaded.network.state_dict(), model.network)


def test_a_uri_names_its_base(saved) -> None:
    base, _, _ = saved
    described = describe_base(base.as_uri())
    assert described == {"path": base.as_uri(), "sha256": describe_base(str(base))["sha256"]}
