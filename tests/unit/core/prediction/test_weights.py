"""What names weights: files, runs' folders, exports and Meta's; and what training started from."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from sam2vt.config import ModelConfig
from sam2vt.core.model.adapters import ADAPTERS, Adapter
from sam2vt.core.model.checkpoints import BASE, describe_base
from sam2vt.core.model.execution import require_precision
from sam2vt.core.model.export import export_checkpoint
from sam2vt.core.model.network_yaml import yaml_beside
from sam2vt.core.model.sam2 import build_from_config
from sam2vt.core.prediction.weights import (
    find_weights,
    load_model,
    name_of,
    open_weights,
    zero_shot,
)
from sam2vt.core.training.checkpoints.store import CheckpointInfo, CheckpointStore
from sam2vt.errors import CheckpointError, ConfigError

NANO = "network/sam2.1_nano.yaml"


def config(**given) -> ModelConfig:
    return ModelConfig(config_path=NANO, image_size=64, device="cpu", **given)


def training_checkpoint(path: Path, state: dict[str, torch.Tensor], **given) -> Path:
    content = {
        "state_dict": {f"model.network.{name}": each for name, each in state.items()},
        "hyper_parameters": {"config": {"model": asdict(config(**given))}},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def mark(model) -> float:
    return model.network.no_mem_embed.flatten()[0].item()


@pytest.fixture(scope="module")
def states() -> dict[float, dict[str, torch.Tensor]]:
    """Weights of a nano network, of which one tensor has a value that tells them apart."""
    torch.manual_seed(0)
    state = build_from_config(config()).load().network.state_dict()
    return {value: {**state, "no_mem_embed": torch.full((1, 1, 64), value)} for value in (1.0, 2.0, 3.0)}


@pytest.fixture
def run(states, tmp_path) -> Path:
    """A run's folder whose second of three checkpoints is its best."""
    store = CheckpointStore(str(tmp_path / "mine" / "checkpoints"), pauses=())
    for step, score in ((1, 0.2), (2, 0.8), (3, 0.5)):
        file = training_checkpoint(tmp_path / "state", states[float(step)])
        store.put(file, CheckpointInfo(step, 0, step, 1, "validation", score))
    return tmp_path / "mine"


@pytest.mark.parametrize("inside", ["", "/", "/checkpoints", "URI"])
def test_a_run_folder_means_its_best(run: Path, inside: str) -> None:
    weights = open_weights(run.as_uri() if inside == "URI" else f"{run}{inside}", device="cpu")
    assert mark(weights.model) == 2.0
    assert not weights.model.training
    assert weights.name == "mine_best"
    assert weights.path.endswith("/mine/checkpoints/step_00000002.ckpt")
    assert weights.digest == hashlib.sha256((run / "checkpoints" / "best.ckpt").read_bytes()).hexdigest()
    assert weights.label == f"mine_best@{weights.digest[:12]}"


def test_a_best_without_its_manifest_counts(run: Path) -> None:
    for manifest in (run / "checkpoints").glob("*.json"):
        manifest.unlink()
    assert find_weights(str(run)).path == f"{run}/checkpoints/best.ckpt"
    (run / "checkpoints").rename(run / "best")  # as a sweep has it
    assert find_weights(str(run)) == (f"{run}/best/best.ckpt", "mine_best", None, None, None)


def test_a_damaged_best_is_told(run: Path) -> None:
    manifest = run / "checkpoints" / "step_00000002.json"
    manifest.write_text(re.sub(r'"sha256": "\w+"', '"sha256": "0123"', manifest.read_text()))
    with pytest.raises(CheckpointError, match=r"step_00000002\.ckpt: has sha256 .*damaged.*name another"):
        open_weights(str(run), device="cpu")


def test_folders_without_a_best(run: Path, tmp_path: Path) -> None:
    """Each tells why there is none, and what to name instead."""
    (tmp_path / "new" / "checkpoints").mkdir(parents=True)
    (tmp_path / "videos").mkdir()
    unscored = CheckpointStore(str(tmp_path / "early" / "checkpoints"), pauses=())
    (tmp_path / "state").write_bytes(b"x")
    unscored.put(tmp_path / "state", CheckpointInfo(1, 0, 1, 1, "interval", None))
    cases = {
        "new": "has saved no checkpoint here.*save_dir",
        "videos": "holds no checkpoints.*a run's folder, or a checkpoint file",
        "": f"holds no checkpoints.*such as {tmp_path}/early",
        "early": "no best checkpoint yet: none of its 2 was validated.*early/checkpoints/step_00000001.ckpt",
    }
    for name, message in cases.items():
        with pytest.raises(CheckpointError, match=f"^{re.escape(str(tmp_path / name))}: .*{message}"):
            find_weights(str(tmp_path / name))
    with pytest.raises(CheckpointError, match="holds no checkpoints"):
        find_weights((tmp_path / "nowhere").as_uri())
    with pytest.raises(CheckpointError, match="no such checkpoint file"):
        open_weights(str(tmp_path / "nowhere"), device="cpu")


def test_an_export_finds_its_yaml(run: Path, tmp_path: Path) -> None:
    export_checkpoint(run / "checkpoints" / "best.ckpt", tmp_path / "tuned.pt")
    weights = open_weights(str(tmp_path / "tuned.pt"), device="cpu")
    assert (mark(weights.model), weights.model.image_size, weights.name) == (2.0, 64, "tuned")
    with pytest.raises(CheckpointError, match="do not say what their training started from"):
        zero_shot(weights)


@pytest.mark.parametrize(
    ("path", "yaml"),
    [
        ("/a/sam2.1_hiera_tiny.pt", "configs/sam2.1/sam2.1_hiera_t.yaml"),
        ("sam2_hiera_base_plus.pt", "configs/sam2/sam2_hiera_b+.yaml"),
        ("s3://a/sam2.1_hiera_large.pt", "configs/sam2.1/sam2.1_hiera_l.yaml"),
        ("hf://facebook/sam2.1-hiera-small", "configs/sam2.1/sam2.1_hiera_s.yaml"),
        ("hf://facebook/sam2-hiera-small@main/sam2_hiera_small.pt", "configs/sam2/sam2_hiera_s.yaml"),
    ],
)
def test_metas_names_name_their_yaml(path: str, yaml: str) -> None:
    assert yaml_beside(path) == yaml


@pytest.mark.parametrize("path", ["sam2.1_hiera_huge.pt", "hf://me/tuned", "my_sam2_hiera_tiny.pt"])
def test_other_names_have_no_network(path: str) -> None:
    assert yaml_beside(path) is None


def test_weights_without_a_network_are_refused(tmp_path: Path) -> None:
    torch.save({"model": {"weight": torch.ones(1)}}, tmp_path / "tuned.pt")
    named = r"without tuned\.yaml beside it.*--network, such as configs/sam2.1/sam2.1_hiera_t.yaml"
    with pytest.raises(ConfigError, match=named):
        load_model(str(tmp_path / "tuned.pt"), device="cpu")


def test_weights_of_any_name_are_opened(tmp_path: Path, states) -> None:
    torch.save({"module." + name: value for name, value in states[1.0].items()}, tmp_path / "tuned.pt")
    model = load_model(str(tmp_path / "tuned.pt"), device="cpu")
    assert model.config_path == "network/sam2.1_nano.yaml"
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, states[1.0][name])


def test_a_file_that_cannot_be_read_says_what_it_is(tmp_path: Path, states) -> None:
    torch.save({"model": {"image_encoder.pos_embed": torch.ones(1)}}, tmp_path / "sam.pt")
    with pytest.raises(ConfigError, match="those of a SAM without memory, of before SAM 2, without"):
        load_model(str(tmp_path / "sam.pt"), device="cpu")
    torch.save({"model": states[1.0]}, tmp_path / "sam2.1_hiera_tiny.pt")
    told = r"its tensors are those of model=nano, whose YAML is network/sam2\.1_nano\.yaml"
    with pytest.raises(CheckpointError, match=told):
        load_model(str(tmp_path / "sam2.1_hiera_tiny.pt"), device="cpu", image_size=64)


def test_another_network_is_refused(tmp_path: Path, states) -> None:
    torch.save({"model": states[1.0]}, tmp_path / "sam2.1_hiera_tiny.pt")
    with pytest.raises(CheckpointError, match="does not fit"):
        load_model(str(tmp_path / "sam2.1_hiera_tiny.pt"), device="cpu", image_size=64)
    checkpoint = training_checkpoint(tmp_path / "last.ckpt", states[1.0])
    with pytest.raises(ConfigError, match="knows its network; leave any.yaml out"):
        load_model(str(checkpoint), device="cpu", config_path="any.yaml")


def test_zero_shot_is_what_the_training_started_from(tmp_path: Path, states, monkeypatch) -> None:
    """Of a whole checkpoint, of one that holds only what trained, and of one with an adapter."""
    added = torch.nn.Parameter(torch.zeros(1))
    adapter = Adapter(lambda network, settings: network.register_parameter("added", added))
    monkeypatch.setitem(ADAPTERS, "dummy", adapter)
    start = tmp_path / "start.pt"
    torch.save({"model": states[3.0]}, start)
    whole = training_checkpoint(tmp_path / "whole.ckpt", states[1.0], checkpoint_path=str(start))
    given = {"checkpoint_path": str(start), "adapter": "dummy"}
    adapted = training_checkpoint(tmp_path / "adapted.ckpt", {**states[1.0], "added": added.data}, **given)
    part = training_checkpoint(tmp_path / "part.ckpt", states[1.0], checkpoint_path="elsewhere.pt")
    content = torch.load(part, weights_only=True)
    name = "model.network.no_mem_embed"
    content["state_dict"] = {name: content["state_dict"][name]}
    torch.save({**content, BASE: describe_base(str(start))}, part)
    for checkpoint in (whole, adapted, part):
        tuned = open_weights(str(checkpoint), device="cpu", image_size=32, postprocessing="none")
        untrained = zero_shot(tuned)
        assert (mark(tuned.model), mark(untrained.model)) == (1.0, 3.0)
        assert untrained.name == "zero-shot_start"
        assert untrained.digest == describe_base(str(start))["sha256"]
        assert (untrained.model.image_size, untrained.model.postprocessing) == (32, "none")
        assert not untrained.model.training


def test_zero_shot_needs_a_start(tmp_path: Path, states) -> None:
    random = open_weights(str(training_checkpoint(tmp_path / "random.ckpt", states[1.0])), device="cpu")
    with pytest.raises(CheckpointError, match="started from random weights"):
        zero_shot(random)
    moved = training_checkpoint(tmp_path / "moved.ckpt", states[1.0], checkpoint_path="gone.pt")
    weights = open_weights(str(moved), device="cpu")
    with pytest.raises(CheckpointError, match=r"started from gone\.pt, which is not there.*--base"):
        zero_shot(weights)
    torch.save({"model": states[3.0]}, tmp_path / "start.pt")
    assert mark(zero_shot(weights, str(tmp_path / "start.pt")).model) == 3.0


def test_precision_is_refused_by_name_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match="fp16 needs a GPU.*bf16-mixed or 32-true"):
        open_weights("no.ckpt", device="cpu", precision="16-mixed")
    with pytest.raises(ConfigError, match="precision='64': must be one of 32-true"):
        open_weights("no.ckpt", device="cpu", precision="64")
    require_precision("16-mixed", torch.device("cuda"))


def test_autocast_is_the_precisions(tmp_path: Path, states) -> None:
    checkpoint = str(training_checkpoint(tmp_path / "last.ckpt", states[1.0]))
    for precision, dtype in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        weights = open_weights(checkpoint, device="cpu", precision=precision)
        with weights.autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [
        ("runs/mine/checkpoints/best.ckpt", "mine_best"),
        ("sweeps/mine/best/best.ckpt", "mine_best"),
        ("/a/tuned.pt", "tuned"),
        ("checkpoints/last.ckpt", "last"),
        ("s3://bucket/runs/mine/checkpoints/last.ckpt", "mine_last"),
        ("hf://facebook/sam2.1-hiera-tiny@v1/a b.pt", "a_b"),
        ("hf://me/sam2.1-tuned@v1/model.safetensors", "sam2.1-tuned"),
        ("exports/sam2.1-tuned/model.safetensors", "sam2.1-tuned"),
        ("model.safetensors", "model"),
    ],
)
def test_results_are_named_after_the_checkpoint(checkpoint: str, name: str) -> None:
    assert name_of(checkpoint) == name
