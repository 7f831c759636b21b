"""Where a group of workers begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sam2vt.config import Config
from sam2vt.core.training.checkpoints.store import CheckpointInfo, CheckpointStore
from sam2vt.distributed.board import Board
from sam2vt.distributed.stream import start as resuming
from sam2vt.distributed.stream.plan import plan_stream
from sam2vt.distributed.stream.start import NextStream, Start, local_checkpoint
from sam2vt.errors import TrainingError


class Handle:
    """An actor's handle whose calls run here."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def __getattr__(self, name: str) -> Any:
        return type("Method", (), {"remote": staticmethod(getattr(self.actor, name))})


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setattr(resuming.ray, "get", lambda value: value)
    monkeypatch.setattr(resuming, "show_logs", lambda board: None)
    return Board()


def next_stream(board: Board, folder: Path, given: Start = Start(0, 0, None)) -> NextStream:  # noqa: B008
    config = Config()
    config.dataset.clips_per_video, config.ray.num_workers = 6, 2
    return NextStream(None, plan_stream(config, 3), given, 1, str(folder), Handle(board))  # type: ignore[arg-type]


def put(folder: Path, step: int, samples_seen: int) -> str:
    store = CheckpointStore(str(folder))
    (folder / "state").write_bytes(b"state")
    return store.path(store.put(folder / "state", CheckpointInfo(step, 0, samples_seen, 2, "interval", None)))


def test_begins_at_the_newest_complete_checkpoint_and_says_so(board: Board, tmp_path: Path) -> None:
    assert next_stream(board, tmp_path)().first_step == 0
    assert board.get_start() == Start(0, 0, None)
    put(tmp_path, 3, 6)
    newest = put(tmp_path, 5, 10)
    assert next_stream(board, tmp_path)().first_step == 5
    assert board.get_start() == Start(5, 10, newest)
    Path(newest).write_bytes(b"torn")
    assert next_stream(board, tmp_path)().first_step == 3


def test_steps_count_from_the_run_that_is_gone_on_with(board: Board, tmp_path: Path) -> None:
    """Which had seen 40 clips when it stood at what is step 9 of this plan."""
    given = Start(9, 40, "/runs/old/last.ckpt")
    assert next_stream(board, tmp_path, given)().first_step == 9
    assert board.get_start() == given
    put(tmp_path, 22, 44)
    assert next_stream(board, tmp_path, given)().first_step == 11


def test_an_error_of_the_run_ends_it(board: Board, tmp_path: Path) -> None:
    board.set_failure(TrainingError("loss nan on v1"))
    board.set_failure(TrainingError("a later one"))
    with pytest.raises(TrainingError, match="loss nan on v1"):
        next_stream(board, tmp_path)()


def test_a_remote_checkpoint_becomes_a_local_file(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"state")
    with local_checkpoint(f"file://{tmp_path}/a.ckpt") as local:
        assert local is not None
        assert "://" not in local
        assert Path(local).read_bytes() == b"state"
    assert not Path(local).exists()
    with local_checkpoint(str(tmp_path / "a.ckpt")) as same, local_checkpoint(None) as none:
        assert (same, none) == (str(tmp_path / "a.ckpt"), None)
