"""The mean of checkpoints: of runs, checkpoints and exports; what has none; and what reads the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sam2vt.config import ModelConfig
from sam2vt.configuration.loading import from_dict, to_dict
from sam2vt.configuration.reading import configs_dir
from sam2vt.core.model.adapters import ADAPTERS, Adapter
from sam2vt.core.model.checkpoints import BASE, describe_base
from sam2vt.core.model.export import export_checkpoint
from sam2vt.core.model.sam2 import build_from_config
from sam2vt.core.prediction import averaging
from sam2vt.core.prediction.averaging import average_checkpoints, mix_with_start
from sam2vt.core.prediction.weights import open_weights
from sam2vt.core.training.checkpoints.store import CheckpointInfo, CheckpointStore
from sam2vt.errors import CheckpointError

from ..model.stock import set_up_hydra

NANO = "network/sam2.1_nano.yaml"
State = dict[str, torch.Tensor]


def state_of(seed: int) -> State:
    torch.manual_seed(seed)
    config = ModelConfig(config_path=NANO, image_size=64, device="cpu")
    return build_from_config(config).load().network.state_dict()


@pytest.fixture(scope="module")
def states() -> list[State]:
    return [state_of(seed) for seed in range(3)]


def training_checkpoint(path: Path, state: State, base: Path | None = None, **model: Any) -> Path:
    """As a run writes it; with a base, only the mask decoder's tensors."""
    config = from_dict({"model": {"config_path": NANO, "image_size": 64, **model}})
    if base is not None:
        state = {name: value for name, value in state.items() if name.startswith("sam_mask_decoder")}
    content = {
        "state_dict": {f"model.network.{name}": value for name, value in state.items()},
        "hyper_parameters": {"config": to_dict(config)},
        **({BASE: describe_base(str(base))} if base else {}),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def run_folder(folder: Path, state: State, **model: Any) -> Path:
    """A run whose best checkpoint is in its store, with the manifest that holds its configuration."""
    file = training_checkpoint(folder / "state", state, **model)
    config = torch.load(file, weights_only=True)["hyper_parameters"]["config"]
    store = CheckpointStore(str(folder / "checkpoints"), pauses=())
    store.put(file, CheckpointInfo(1, 0, 1, 1, "validation", 0.5, config=config))
    return folder


def read(path: Path) -> State:
    return torch.load(path, weights_only=True)["model"]


def assert_mean(found: State, states: list[State], shares: list[float]) -> None:
    assert found.keys() == states[0].keys()
    for name, value in found.items():
        expected = sum(share * state[name].double() for share, state in zip(shares, states))
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)  # type: ignore[arg-type]


def test_the_mean_of_a_run_a_checkpoint_and_an_export(tmp_path: Path, states: list[State]) -> None:
    run = run_folder(tmp_path / "run", states[0])
    checkpoint = training_checkpoint(tmp_path / "last.ckpt", states[1], image_size=96)
    export_checkpoint(training_checkpoint(tmp_path / "other.ckpt", states[2]), tmp_path / "tuned.pt")
    given, shares = [str(run), str(checkpoint), str(tmp_path / "tuned.pt")], [0.5, 0.3, 0.2]
    network = average_checkpoints(given, tmp_path / "new" / "mean.pt", shares)
    assert_mean(read(tmp_path / "new" / "mean.pt"), states, shares)
    assert network == tmp_path / "new" / "mean.yaml"
    assert yaml.safe_load(network.read_text())["model"]["image_size"] == 64  # the first's


def test_the_result_loads_like_an_export(tmp_path: Path, states: list[State]) -> None:
    from sam2.build_sam import build_sam2

    set_up_hydra()
    given = [str(training_checkpoint(tmp_path / f"{i}.ckpt", states[i], num_maskmem=4)) for i in (0, 1)]
    out = tmp_path / "mean.pt"
    network = average_checkpoints(given, out, [0.5, 0.5])
    mean = read(out)
    stock = build_sam2(f"//{network}", str(out), device="cpu", apply_postprocessing=False)
    ours = open_weights(str(out), device="cpu").model
    export_checkpoint(out, tmp_path / "again.pt")
    found = (stock.state_dict(), ours.network.state_dict(), read(tmp_path / "again.pt"))
    for state in found:
        assert not [name for name, value in mean.items() if not torch.equal(value, state[name])]
    assert stock.num_maskmem == ours.num_maskmem == 4
    again = average_checkpoints([str(out), given[0]], tmp_path / "third.pt", [0.5, 0.5])
    positions = states[0]["maskmem_tpos_enc"]  # of which a shorter memory has the first and the last
    first = {**states[0], "maskmem_tpos_enc": torch.cat([positions[:3], positions[-1:]])}
    assert_mean(read(again.with_suffix(".pt")), [mean, first], [0.5, 0.5])


def test_equal_weights_stay_as_they_are(tmp_path: Path, states: list[State]) -> None:
    checkpoint = str(training_checkpoint(tmp_path / "last.ckpt", states[0]))
    average_checkpoints([checkpoint, checkpoint], tmp_path / "mean.pt", [0.5, 0.5])
    assert all(torch.equal(value, states[0][name]) for name, value in read(tmp_path / "mean.pt").items())


def test_a_tuned_run_is_mixed_with_what_it_started_from(tmp_path: Path, states: list[State]) -> None:
    """Named in its configuration, or as the base of a checkpoint that holds only what trained; and moved."""
    start = tmp_path / "start.pt"
    torch.save({"model": states[2]}, start)
    whole = training_checkpoint(tmp_path / "whole.ckpt", states[0], checkpoint_path=str(start))
    tuned = {**states[2], **{n: v for n, v in states[0].items() if n.startswith("sam_mask_decoder")}}
    part = training_checkpoint(tmp_path / "part.ckpt", states[0], base=start, checkpoint_path="elsewhere.pt")
    run = run_folder(tmp_path / "run", states[0], checkpoint_path=str(start))
    for checkpoint, state in ((whole, states[0]), (part, tuned), (run, states[0])):
        mix_with_start(str(checkpoint), tmp_path / "mixed.pt", 0.25)
        assert_mean(read(tmp_path / "mixed.pt"), [state, states[2]], [0.75, 0.25])
    start.rename(tmp_path / "moved.pt")
    for checkpoint, state in ((whole, states[0]), (part, tuned)):
        mix_with_start(str(checkpoint), tmp_path / "mixed.pt", 0.5, base=str(tmp_path / "moved.pt"))
        assert_mean(read(tmp_path / "mixed.pt"), [state, states[2]], [0.5, 0.5])


def test_an_adapter_is_merged_first(
    tmp_path: Path, states: list[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    def adapt(network: Any, settings: Any) -> None:
        network.added = torch.nn.Parameter(torch.zeros(()))

    def merge(network: Any) -> None:
        network.no_mem_embed.data += network.added.data
        del network.added

    monkeypatch.setitem(ADAPTERS, "dummy", Adapter(adapt, merge))
    start = tmp_path / "start.pt"
    torch.save({"model": states[0]}, start)
    state = {**states[0], "added": torch.tensor(2.0)}
    adapted = training_checkpoint(tmp_path / "a.ckpt", state, adapter="dummy", checkpoint_path=str(start))
    mix_with_start(str(adapted), tmp_path / "mixed.pt", 0.25)
    expected = {**states[0], "no_mem_embed": states[0]["no_mem_embed"] + 1.5}
    assert_mean(read(tmp_path / "mixed.pt"), [expected], [1.0])


@pytest.fixture
def reads_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any) -> None:
        raise AssertionError(f"{self.path} was read")

    monkeypatch.setattr(averaging.Source, "read", refuse)


@pytest.mark.usefixtures("reads_no_weights")
@pytest.mark.parametrize("kind", ["run", "checkpoint", "export"])
def test_networks_that_differ_are_refused_before_weights_are_read(
    tmp_path: Path, states: list[State], kind: str
) -> None:
    network = yaml.safe_load((configs_dir() / NANO).read_text())
    network["model"]["memory_attention"]["num_layers"] = 1
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(network))
    first = str(training_checkpoint(tmp_path / "first.ckpt", states[0]))
    other: dict[str, Any] = {"config_path": str(tmp_path / "other.yaml"), "num_maskmem": 3}
    if kind == "run":
        second = run_folder(tmp_path / "run", states[1], **other)
        best = second / "checkpoints" / "step_00000001.ckpt"
        best.write_bytes(bytes(best.stat().st_size))  # the manifest is enough
    elif kind == "checkpoint":
        second = training_checkpoint(tmp_path / "last.ckpt", states[1], **other)
    else:
        network["model"]["num_maskmem"] = 3
        (tmp_path / "tuned.yaml").write_text(yaml.safe_dump(network))
        torch.save({"model": states[1]}, tmp_path / "tuned.pt")
        second = tmp_path / "tuned.pt"
    with pytest.raises(CheckpointError) as caught:
        average_checkpoints([first, str(second)], tmp_path / "new" / "mean.pt", [0.5, 0.5])
    said = str(caught.value)
    assert said.startswith(f"{first} and {second}")
    assert "model.num_maskmem is 7, there 3" in said
    assert "model.memory_attention.num_layers is 2, there 1" in said
    assert not (tmp_path / "new").exists()


def test_what_has_no_mean_is_refused(tmp_path: Path, states: list[State]) -> None:
    """Each names its file, and nothing is written."""
    first = str(training_checkpoint(tmp_path / "first.ckpt", states[0]))
    torch.save({"model": states[1]}, tmp_path / "alone.pt")
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "sam2.1_hiera_tiny.pt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    wrong = dict(states[1])
    wrong["no_mem_embed"] = torch.zeros(1, 1, 8)
    cases = {
        "alone.pt": "not a training checkpoint of sam2vt.*alone.yaml",
        "sam2.1_hiera_tiny.pt": "their networks differ.*and .* more",
        "text.ckpt": "text.ckpt: ",
        "missing.ckpt": "no such checkpoint file",
        str(training_checkpoint(tmp_path / "wrong.ckpt", wrong)): "wrong.ckpt: does not fit.*no_mem_embed",
    }
    for name, message in cases.items():
        with pytest.raises(CheckpointError, match=message):
            average_checkpoints([first, str(tmp_path / name)], tmp_path / "new" / "mean.pt", [0.5, 0.5])
        assert not (tmp_path / "new").exists()
    with pytest.raises(CheckpointError, match="is the checkpoint itself"):
        average_checkpoints([first, first], first, [0.5, 0.5])


def test_a_damaged_best_is_told(tmp_path: Path, states: list[State]) -> None:
    run = run_folder(tmp_path / "run", states[0])
    best = run / "checkpoints" / "step_00000001.ckpt"
    content = bytearray(best.read_bytes())
    content[len(content) // 2] ^= 1
    best.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=r"step_00000001\.ckpt: has sha256 .*damaged"):
        average_checkpoints([str(run), str(run)], tmp_path / "mean.pt", [0.5, 0.5])


def test_a_mix_needs_a_start(tmp_path: Path, states: list[State]) -> None:
    torch.save({"model": states[1]}, tmp_path / "alone.pt")
    gone = training_checkpoint(tmp_path / "gone.ckpt", states[0], checkpoint_path="gone.pt")
    cases = {
        str(tmp_path / "alone.pt"): "do not say what their training started from",
        str(training_checkpoint(tmp_path / "random.ckpt", states[0])): "started from random weights",
        str(gone): r"started from gone\.pt, which is not there.*--base",
    }
    for checkpoint, message in cases.items():
        with pytest.raises(CheckpointError, match=message):
            mix_with_start(checkpoint, tmp_path / "mixed.pt", 0.5)
        assert not (tmp_path / "mixed.pt").exists()
