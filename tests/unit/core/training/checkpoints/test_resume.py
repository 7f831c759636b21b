"""What `resume` means: nothing, auto, a folder or a file; and what is read to find out."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sam2vt.config import Config
from sam2vt.configuration.loading import to_dict
from sam2vt.core.model import checkpoints as reading
from sam2vt.core.training.checkpoints.resume import checkpoint_to_resume, find_checkpoint
from sam2vt.core.training.checkpoints.store import DATA_STATE, CheckpointInfo, CheckpointStore, as_json
from sam2vt.errors import CheckpointError, ConfigError

POSITION = {"epoch": 1, "clips": 4, "samples_seen": 10, "clips_per_step": 2}


def fill(run: Path, *steps: int) -> CheckpointStore:
    """A run folder with checkpoints of these steps, whose files nobody could load."""
    store = CheckpointStore(str(run / "checkpoints"))
    for step in steps:
        local = run / "state"
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(b"state %d" % step)
        store.put(local, CheckpointInfo(step, 0, step, 1, "interval", None, POSITION, to_dict(Config())))
    return store


@pytest.fixture
def config(tmp_path) -> Config:
    return Config(output_dir=str(tmp_path / "run"), resume=None)


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The paths of all files that are loaded."""
    seen, read = [], reading.read_checkpoint

    def noted(path: str) -> dict[str, Any]:
        seen.append(path)
        return read(path)

    monkeypatch.setattr(reading, "read_checkpoint", noted)
    return seen


def path_to_resume(config: Config) -> str | None:
    point = checkpoint_to_resume(config)
    return None if point is None else point.path


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
        assert path_to_resume(config) == f"{store.root}/step_00000001.ckpt"
        assert "its writing was not finished" in caplog.text


@pytest.mark.parametrize("inner", ["", "checkpoints"])
def test_a_folder_is_its_newest_complete_checkpoint(config, tmp_path, inner) -> None:
    store = fill(tmp_path / "other", 3, 5)
    config.resume = str(tmp_path / "other" / inner)
    assert path_to_resume(config) == f"{store.root}/step_00000005.ckpt"
    (tmp_path / "other" / "checkpoints" / "step_00000005.ckpt").write_bytes(b"state?!")
    assert path_to_resume(config) == f"{store.root}/step_00000003.ckpt"


def test_a_folder_without_checkpoints_is_refused(config, tmp_path) -> None:
    config.resume = str(tmp_path)
    with pytest.raises(CheckpointError, match="there is no complete checkpoint in this folder"):
        checkpoint_to_resume(config)


def test_a_file_in_place_of_the_folder_is_said(config, tmp_path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").write_text("")
    with pytest.raises(CheckpointError, match=r"save_dir=.*run/checkpoints is a file; choose a folder"):
        checkpoint_to_resume(config)


def test_a_file_of_the_run_s_own_or_of_another_run(config, tmp_path) -> None:
    own, other = fill(tmp_path / "run", 1), fill(tmp_path / "other", 1)
    config.resume = f"{own.root}/last.ckpt"
    assert path_to_resume(config) == config.resume
    config.resume = f"{other.root}/last.ckpt"
    with pytest.raises(ConfigError, match="another run"):
        checkpoint_to_resume(config)
    config.output_dir = str(tmp_path / "third")
    assert path_to_resume(config) == config.resume


@pytest.mark.parametrize("name", ["step_00000007.ckpt", "last.ckpt", "mine.ckpt"])
def test_position_and_settings_come_from_the_manifest(config, tmp_path, reads, name) -> None:
    store = fill(tmp_path / "other", 5, 7)
    shutil.copy(f"{store.root}/last.ckpt", f"{store.root}/mine.ckpt")
    config.resume = f"{store.root}/{name}"
    point = checkpoint_to_resume(config)
    assert (point.step, point.position, point.content) == (7, POSITION, None)
    config.seed = 1
    with pytest.raises(CheckpointError, match=f"{name}.*other settings: seed was 0, is 1"):
        checkpoint_to_resume(config)
    assert reads == []  # the files hold no checkpoint


def written(folder: Path, config: Config) -> Path:
    """A checkpoint file without a manifest."""
    folder.mkdir(exist_ok=True)
    state = {"state_dict": {}, "optimizer_states": [], "loops": {}, "global_step": 7, DATA_STATE: POSITION}
    torch.save({**state, "hyper_parameters": {"config": to_dict(config)}}, folder / "a.ckpt")
    return folder / "a.ckpt"


def test_a_file_without_a_manifest_is_read_once_and_its_content_passed_on(config, tmp_path, reads) -> None:
    config.resume = str(written(tmp_path / "bare", config))
    point = checkpoint_to_resume(config)
    assert (point.step, point.position) == (7, POSITION)
    assert point.content["global_step"] == 7
    assert reads == [config.resume]
    config.seed = 1
    with pytest.raises(CheckpointError, match=r"a\.ckpt.*other settings: seed was 0, is 1"):
        checkpoint_to_resume(config)


@pytest.mark.parametrize(("content", "says"), [(b"state!", "6 bytes of 7"), (b"STATE 7", "sha256")])
def test_a_torn_file_is_read_and_refused(config, tmp_path, caplog, content, says) -> None:
    store = fill(tmp_path / "other", 7)
    config.resume = f"{store.root}/step_00000007.ckpt"
    Path(config.resume).unlink()  # `last.ckpt` is a link to it
    Path(config.resume).write_bytes(content)
    with (
        caplog.at_level(logging.WARNING, "sam2vt"),
        pytest.raises(CheckpointError, match=r"step_00000007.ckpt: (cannot be read|not a checkpoint)"),
    ):
        checkpoint_to_resume(config)
    assert f"is not what the manifest beside it says: step_00000007.ckpt has {says}" in caplog.text


def test_a_file_that_its_owner_wrote_anew_is_taken_as_it_is(config, tmp_path, reads) -> None:
    store = fill(tmp_path / "other", 7)
    config.resume = f"{store.root}/step_00000007.ckpt"
    shutil.copy(written(tmp_path / "bare", config), config.resume)
    assert checkpoint_to_resume(config).content is not None
    assert reads == [config.resume]


def test_a_manifest_of_an_older_version_is_not_enough(config, tmp_path, reads) -> None:
    store = CheckpointStore(str(tmp_path / "old"))
    path = written(tmp_path / "old", config)
    manifest = store.put(path, CheckpointInfo(7, 0, 10, 1, "interval", None))
    json_file = tmp_path / "old" / manifest.name
    content = json.loads(json_file.read_text())
    del content["position"], content["config"]
    json_file.write_text(json.dumps(content))
    config.resume = str(tmp_path / "old")
    point = checkpoint_to_resume(config)
    assert (point.step, point.position, point.content["global_step"]) == (7, POSITION, 7)
    assert reads == [store.path(manifest)]


def test_a_configuration_is_the_same_in_json(config) -> None:
    config.dataset.augment.scale = (0.5, 1.0)
    assert as_json(to_dict(config)) == to_dict(config)
    assert as_json({"a": object()}) is None


def test_where_folders_cannot_be_listed_a_file_is_taken_as_it_is(config, monkeypatch) -> None:
    def refuse(self: CheckpointStore, name: str) -> None:
        raise PermissionError("no listing")

    monkeypatch.setattr(CheckpointStore, "describe", refuse)
    own = CheckpointStore(str(config.checkpoint_dir))
    assert find_checkpoint("/bucket/a.ckpt", own) == ("/bucket/a.ckpt", None)
