"""Adapter files: what is written is read, and other files are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sam2vt.core.model.adapter_file import read_adapter, write_adapter
from sam2vt.core.model.checkpoints import read_checkpoint
from sam2vt.errors import CheckpointError

BASE = {"path": "/weights/tiny.pt", "sha256": "0" * 64}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state = {"a.lora_A.default.weight": torch.randn(4, 2).T, "b.bias": torch.ones(3, dtype=torch.bfloat16)}
    file = tmp_path / "last.safetensors"
    write_adapter(file, state, BASE, {"lora": {"rank": 2}})
    content = read_checkpoint(str(file))
    assert content["base"] == BASE
    assert content["hyper_parameters"]["config"]["model"] == {"lora": {"rank": 2}}
    assert content["model"].keys() == state.keys()
    assert all(torch.equal(content["model"][name], value) for name, value in state.items())
    assert file.stat().st_mode & 0o044  # others may read it, as other files of a run


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(2)}, file)
    with pytest.raises(CheckpointError, match=r"x.safetensors: does not name its base and its model"):
        read_adapter(str(file), str(file))
    for base in ("{", "[" * 100_000):
        save_file({"a": torch.ones(2)}, file, {"base": base, "model": "{}"})
        with pytest.raises(CheckpointError, match=r"does not name its base and its model"):
            read_adapter(str(file), str(file))
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=r"x.safetensors: cannot be read, it may be cut off"):
        read_adapter(str(file), str(file))
