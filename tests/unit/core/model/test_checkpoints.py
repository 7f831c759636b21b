"""Where checkpoints are found, and the names of what they hold."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sam2vt.core.model.checkpoints import load_weights, read_checkpoint, read_hashed
from sam2vt.errors import CheckpointError


def small(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))


SMALL = small(0)


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save({"model": {"weight": torch.ones(2)}}, tmp_path / "weights.pt")
    assert torch.equal(read_checkpoint("~/weights.pt")["model"]["weight"], torch.ones(2))


def test_a_uri_of_a_local_file_is_read(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    torch.save({"weight": torch.ones(2)}, tmp_path / "weights.pt")
    content = read_checkpoint((tmp_path / "weights.pt").as_uri())
    assert torch.equal(content["weight"], torch.ones(2))


def test_a_remote_file_is_fetched_once_for_its_content_and_digest(tmp_path: Path, monkeypatch) -> None:
    from sam2vt.core.storage import folder

    torch.save({"weight": torch.ones(2)}, tmp_path / "weights.pt")
    fetched, download = [], folder.download
    monkeypatch.setattr(folder, "download", lambda *where: fetched.append(where) or download(*where))
    content, digest = read_hashed((tmp_path / "weights.pt").as_uri())
    assert torch.equal(content["weight"], torch.ones(2))
    assert digest == hashlib.sha256((tmp_path / "weights.pt").read_bytes()).hexdigest()
    assert len(fetched) == 1


@pytest.mark.parametrize(("name", "message"), [("", "is a folder"), ("none.pt", "no such checkpoint file")])
def test_what_is_no_file_is_named(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(tmp_path / name))


def named(how: Callable[[str], str]) -> dict[str, torch.Tensor]:
    return {how(name): value for name, value in SMALL.state_dict().items()}


WRAPPED: dict[str, tuple[Callable[[str], str], str]] = {
    "DDP": (lambda name: f"module.{name}", "module"),
    "torch.compile": (lambda name: f"_orig_mod.{name}", "_orig_mod"),
    "both": (lambda name: f"module._orig_mod.{name}", "_orig_mod, module"),
    "a module of Lightning's": (lambda name: f"model.{name}", "model."),
    "modules around it": (lambda name: f"teacher.sam2.{name}", "teacher.sam2."),
    "DDP within": (lambda name: f"model.module.{name}", "module, model."),
    "a compiled part": (lambda name: name.replace("1.", "1._orig_mod."), "_orig_mod"),
    "a recomputed part": (lambda name: name.replace("1.", "1._checkpoint_wrapped_module."), "checkpoint"),
}


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("layout", ["model", "state_dict", None])
def test_what_wrappers_put_into_names_is_left_out(
    tmp_path: Path, kind: str, layout: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    how, said = WRAPPED[kind]
    state = named(how)
    torch.save({layout: state} if layout else state, tmp_path / "weights.pt")
    network = small()
    with caplog.at_level(logging.INFO, "sam2vt"):
        load_weights(network, str(tmp_path / "weights.pt"))
    assert all(torch.equal(value, SMALL.state_dict()[name]) for name, value in network.state_dict().items())
    (message,) = caplog.messages
    assert said in message


FURTHER = {
    "an average's counter": (
        "module.",
        ["n_averaged"],
        r"names with module added, but 1 of \d+ .*: n_averaged;",
    ),
    "before the others": ("model.", ["", "step"], r"names with model\. added, but 1 of \d+ .*: step;"),
    "a head": ("model.", ["head.bias", "head.weight"], r"but 2 of \d+ .*: head\.bias, head\.weight;"),
    "many": ("module.", list("pqrst"), r"but 5 of \d+ .*: p, q, r \.\.\.;"),
    "the same twice": ("module.", ["0.weight"], r"twice: module\.0\.weight, 0\.weight;"),
    "a network that is another": ("module.", ["module.9.weight"], r"does not fit.*unknown 9\.weight"),
    "none of the names": ("", ["", "other"], r"does not fit.*unknown other"),
}


@pytest.mark.parametrize("kind", FURTHER)
def test_tensors_without_the_prefix_of_the_others_are_named(tmp_path: Path, kind: str) -> None:
    prefix, further, message = FURTHER[kind]
    state, more = named(lambda name: prefix + name), {name: torch.ones(1) for name in further if name}
    torch.save({**more, **state} if "" in further else {**state, **more}, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=message):
        load_weights(small(), str(tmp_path / "weights.pt"))


def test_names_that_fit_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also where a part of the network has a wrapper's name."""
    network = nn.ModuleDict({"module": nn.Linear(2, 2)})
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    with caplog.at_level(logging.INFO, "sam2vt"):
        load_weights(network, str(tmp_path / "weights.pt"))
    assert not caplog.messages


def each_as(change: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: change(value) for name, value in SMALL.state_dict().items()}


ODD: dict[str, tuple[dict[str, Any], str]] = {
    "a base that is a text": ({"base": "start.pt"}, "'base' in it must be the path and sha256"),
    "a base without its sha256": ({"base": {"path": "start.pt"}}, "'base' in it must be the path and sha256"),
    "a base at a number": ({"base": {"path": 5, "sha256": ""}}, "'base' in it must be the path and sha256"),
    "numbers as names": ({"model": {5: torch.ones(1)}}, "holds no tensors"),
    "quantised": ({"model": each_as(lambda each: each.to(torch.int8))}, "0.weight is a torch.int8 tensor"),
    "complex": ({"model": each_as(lambda each: each.to(torch.complex64))}, "0.weight is a torch.complex64"),
    "sparse": ({"model": each_as(torch.Tensor.to_sparse)}, r"0.weight is a .* \(torch.sparse_coo\)"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_no_training_writes_is_one_message(tmp_path: Path, kind: str) -> None:
    """Numbers of another type would be taken as they are, and the network would draw anything."""
    content, message = ODD[kind]
    torch.save({"model": SMALL.state_dict(), **content}, tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=message):
        load_weights(small(), str(tmp_path / "weights.pt"))


def test_weights_of_another_precision_are_read(tmp_path: Path) -> None:
    torch.save({"model": each_as(torch.Tensor.bfloat16)}, tmp_path / "weights.pt")
    network = small()
    load_weights(network, str(tmp_path / "weights.pt"))
    assert torch.equal(network[0].weight, SMALL[0].weight.bfloat16().float())
