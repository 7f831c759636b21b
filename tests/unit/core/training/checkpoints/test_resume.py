"""What `resume` means: nothing, auto, a folder or a file."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sam2vt.config import Config
from sam2vt.core.training.checkpoints.resume import checkpoint_to_resume
from sam2vt.core.training.checkpoints.store import CheckpointInfo, CheckpointStore
from sam2vt.errors import CheckpointError, ConfigError


def fill(run: Path, *steps: int) -> CheckpointStore:
    """A run folder with empty checkpoints of these steps."""
    store = CheckpointStore(str(run / "checkpoints"))
    for step in steps:
        local = run / "state"
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(b"state")
        store.put(local, CheckpointInfo(step, 0, step, 1, "interval", None))
    return store


@pytest.fixture
def config(tmp_path) -> Config:
    return Config(output_dir=str(tmp_path / "run"), resume=None)


def test_a_new_run_needs_a_folder_without_another_run_s_checkpoints(config, tmp_path) -> None:
    assert checkpoint_to_resume(config) is None
    fill(tmp_path / "run", 1)
    with pytest.raises(ConfigError, match=r"run/checkpoints.*another run.*resume=auto.*another output_dir"):
        checkpoint_to_resume(config)
    config.trainer.enable_checkpointing = False
    assert checkpoint_to_resume(config) is None


def test_auto_is_the_newest_complete_one_or_a_new_start(config, tmp_path, caplog) -> None:
    config.resume = "auto"
    with caplog.at_level(logging.WARNING, "sam2vt"):
        assert checkpoint_to_resume(config) is None
        assert "starting from step 0" in caplog.text
        store = fill(tmp_path / "run", 1, 2)
        (tmp_path / "run" / "checkpoints" / "step_00000002.json").unlink()
        assert checkpoint_to_resume(config) == f"{store.root}/step_00000001.ckpt"
        assert "its writing was not finished" in caplog.text


@pytest.mark.parametrize("inner", ["", "checkpoints"])
def test_a_folder_is_its_newest_complete_checkpoint(config, tmp_path, inner) -> None:
    store = fill(tmp_path / "other", 3, 5)
    config.resume = str(tmp_path / "other" / inner)
    assert checkpoint_to_resume(config) == f"{store.root}/step_00000005.ckpt"
    (tmp_path / "other" / "checkpoints" / "step_00000005.ckpt").write_bytes(b"stat?")
    assert checkpoint_to_resume(config) == f"{store.root}/step_00000003.ckpt"


def test_a_folder_without_checkpoints_is_refused(config, tmp_path) -> None:
    config.resume = str(tmp_path)
    with pytest.raises(CheckpointError, match="no complete checkpoint lies in this folder"):
        checkpoint_to_resume(config)


def test_a_file_of_the_run_s_own_or_of_another_run(config, tmp_path) -> None:
    own, other = fill(tmp_path / "run", 1), fill(tmp_path / "other", 1)
    config.resume = f"{own.root}/last.ckpt"
    assert checkpoint_to_resume(config) == config.resume
    config.resume = f"{other.root}/last.ckpt"
    with pytest.raises(ConfigError, match="another run"):
        checkpoint_to_resume(config)
    config.output_dir = str(tmp_path / "third")
    assert checkpoint_to_resume(config) == config.resume
