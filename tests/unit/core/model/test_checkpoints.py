"""Where checkpoints are found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sam2vt.core.model.checkpoints import read_checkpoint
from sam2vt.errors import CheckpointError


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save({"model": {"weight": torch.ones(2)}}, tmp_path / "weights.pt")
    assert torch.equal(read_checkpoint("~/weights.pt")["model"]["weight"], torch.ones(2))


def test_a_uri_of_a_local_file_is_read(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    torch.save({"weight": torch.ones(2)}, tmp_path / "weights.pt")
    content = read_checkpoint((tmp_path / "weights.pt").as_uri())
    assert torch.equal(content["weight"], torch.ones(2))


@pytest.mark.parametrize(("name", "message"), [("", "is a folder"), ("none.pt", "no such checkpoint file")])
def test_what_is_no_file_is_named(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(str(tmp_path / name))
