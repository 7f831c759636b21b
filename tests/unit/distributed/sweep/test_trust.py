"""What Tune would unpickle is what this sweep's own driver wrote."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.execution.experiment_state import _ExperimentCheckpointManager

from sam2vt.distributed.cluster.storage import RunStorage
from sam2vt.distributed.sweep import launch, trust
from sam2vt.distributed.sweep.trust import TRUST, check_written_here, note_tuner, noting_state
from sam2vt.errors import ConfigError

STATES = ("tuner.pkl", "searcher-state-1.pkl", "experiment_state-1.json", "trial_000/error.pkl")


class Evil:
    """Makes a file where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder / "evil"),)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStorage:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in (TRUST, "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name in STATES:
        path = tmp_path / "sweep" / "tune" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(name))
    (tmp_path / "sweep" / "tune" / "trial_000" / "result.json").write_text("{}")
    return RunStorage(str(tmp_path / "sweep"))


def note_stored(storage: RunStorage) -> None:
    folder = storage.folder("tune")
    trust._note(storage, {name: folder.sha256(name) for name in STATES})


def test_what_the_sweep_wrote_is_read(storage: RunStorage) -> None:
    note_stored(storage)
    check_written_here(storage)


@pytest.mark.parametrize("name", STATES)
def test_a_forged_file_is_refused_and_not_unpickled(
    storage: RunStorage, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note_stored(storage)
    (tmp_path / "sweep" / "tune" / name).write_bytes(pickle.dumps(Evil(tmp_path)))
    monkeypatch.setattr(launch, "renew_state", lambda _: pytest.fail("the state was read"))
    with pytest.raises(ConfigError, match=rf"{name}: no sweep of yours wrote this.*{TRUST}=1.*output_dir"):
        launch.restored(None, None, storage, 1, None)  # type: ignore[arg-type]
    assert not (tmp_path / "evil").exists()


def test_files_of_another_sweep_or_user_are_refused_unless_they_are_trusted(
    storage: RunStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note_stored(storage)
    moved = RunStorage(str(tmp_path / "moved"))
    (tmp_path / "sweep").rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"tuner\.pkl|experiment_state"):
        check_written_here(moved)
    monkeypatch.setenv(TRUST, "1")
    check_written_here(moved)


def test_digests_are_kept_apart_from_the_files(storage: RunStorage, tmp_path: Path) -> None:
    note_stored(storage)
    note_tuner(storage)
    (notes,) = (path for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert len(notes.read_text().split()) == len(STATES)
    note_stored(storage)
    assert len(notes.read_text().split()) == len(STATES)


def test_state_is_noted_before_it_is_stored(
    storage: RunStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that is killed at any moment leaves nothing unknown."""
    staged, seen = tmp_path / "staged", []

    def sync(self: Any, save_fn: Any, force: bool = False) -> None:
        save_fn()
        (staged / "searcher-state-2.pkl").rename(tmp_path / "sweep" / "tune" / "searcher-state-2.pkl")
        check_written_here(storage)
        seen.append(force)

    monkeypatch.setattr(_ExperimentCheckpointManager, "sync_up_experiment_state", sync)
    note_stored(storage)
    staged.mkdir()
    manager = SimpleNamespace(_storage=SimpleNamespace(experiment_driver_staging_path=str(staged)))
    with noting_state(storage):
        save = lambda: (staged / "searcher-state-2.pkl").write_bytes(pickle.dumps(2))  # noqa: E731
        _ExperimentCheckpointManager.sync_up_experiment_state(manager, save, force=True)  # type: ignore[arg-type]
    assert seen == [True]
    assert _ExperimentCheckpointManager.sync_up_experiment_state is sync


def test_notes_that_cannot_be_written_are_a_warning(
    storage: RunStorage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file")
    note_tuner(storage)
    assert f"resumes with {TRUST}=1 only" in caplog.text


@pytest.fixture
def new_head(storage: RunStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunStorage:
    """A sweep of a cluster with a token, whose head is lost with its home."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a token of the cluster")
    note_stored(storage)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another home"))
    return storage


def test_a_new_head_of_the_same_cluster_knows_the_state(
    new_head: RunStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_written_here(new_head)
    (tmp_path / "token").write_text("a token of the cluster\n")
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    check_written_here(new_head)
    for number in range(20):  # the file of digests does not grow with the sweep
        trust._note(new_head, {"tuner.pkl": str(number), "other.pkl": "x"})
    signed = trust._signed(new_head)
    assert signed["tuner.pkl"] == [str(number) for number in range(12, 20)]
    assert set(signed) == {*STATES, "other.pkl"}


def forge(root: Path, change: Any) -> None:
    """Put another state into the storage, with its digest in the signed file as `change` leaves it."""
    state = pickle.dumps(Evil(root))
    (root / "tune" / "tuner.pkl").write_bytes(state)
    path = root / "tune_digests.json"
    content = json.loads(path.read_text())
    content["files"]["tuner.pkl"] = [hashlib.sha256(state).hexdigest()]
    path.write_text(change(content))


@pytest.mark.parametrize(
    "change",
    [
        json.dumps,
        lambda content: json.dumps({**content, "hmac": "0" * 64}),
        lambda content: json.dumps({**content, "hmac": None}),
        lambda content: json.dumps({**content, "hmac": "\u00e9"}),
        lambda content: json.dumps({"files": content["files"]}),
        lambda content: json.dumps([content]),
        lambda content: "[" * 100_000,
        lambda content: "",
    ],
)
def test_digests_that_nobody_with_the_token_signed(new_head: RunStorage, change: Any) -> None:
    forge(Path(new_head.root), change)
    with pytest.raises(ConfigError, match="no sweep of yours wrote this file"):
        check_written_here(new_head)


@pytest.mark.parametrize(
    ("name", "value"),
    [("RAY_AUTH_TOKEN", "another"), ("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", " ")],
)
def test_another_cluster_does_not_know_the_state(
    new_head: RunStorage, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="no sweep of yours wrote this file"):
        check_written_here(new_head)


def test_signed_digests_are_of_one_run_folder(new_head: RunStorage, tmp_path: Path) -> None:
    (tmp_path / "sweep").rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match="no sweep of yours wrote this file"):
        check_written_here(RunStorage(str(tmp_path / "moved")))
