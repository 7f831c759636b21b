from __future__ import annotations

import io
import signal
from typing import Any

import pytest

from sam2vt.distributed import board as progress
from sam2vt.distributed.board import Board, Display, describe


class LocalBoard:
    """A board in this process, called as an actor is."""

    def __init__(self) -> None:
        self.board = Board()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.board, name)
        return type("Method", (), {"remote": staticmethod(method)})


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> LocalBoard:
    monkeypatch.setattr(progress.ray, "get", lambda value, timeout=None: value)
    return LocalBoard()


def test_a_post_replaces_only_what_it_names() -> None:
    board = Board()
    board.post({"phase": "training", "step": 3, "metrics": {"loss": 1.0}}, ["a"])
    board.post({"step": 4, "metrics": {"J&F": 0.5}}, ["b"])
    status, lines = board.read()
    assert status == {"phase": "training", "step": 4, "metrics": {"loss": 1.0, "J&F": 0.5}}
    assert lines == ["a", "b"]
    assert board.read()[1] == []


def test_a_stop_reaches_the_next_post() -> None:
    board = Board()
    assert board.post({}, []) == (0, 0)
    board.save()
    board.stop(signal.SIGINT)
    assert board.post({}, []) == (signal.SIGINT, 1)


def test_few_lines_where_there_is_no_terminal(board: LocalBoard) -> None:
    stream = io.StringIO()
    with Display(board, stream) as display:
        for step in range(5):
            board.board.post({"phase": "training", "step": step, "total_steps": 9}, [])
            display._refresh()
        board.board.post({"phase": "validating", "metrics": {"J&F": 0.25}}, ["a warning"])
    lines = stream.getvalue().splitlines()
    assert [line.split("] ")[-1] for line in lines] == [
        "training, step 0/9",
        "a warning",
        "validating, step 4/9, J&F 0.250",
    ]


def test_phases_that_alternate_do_not_flood_the_log(board: LocalBoard) -> None:
    stream = io.StringIO()
    with Display(board, stream) as display:
        for step in range(10):
            for phase in ("training", "validating"):
                board.board.post({"phase": phase, "step": step, "total_steps": 9}, [])
                display._refresh()
    assert [line.split("] ")[-1].split(",")[0] for line in stream.getvalue().splitlines()] == [
        "training",
        "validating",
    ]


def test_a_live_bar_on_a_terminal(board: LocalBoard) -> None:
    stream = io.StringIO()
    with Display(board, stream, live=True):
        board.board.post(
            {"phase": "training", "step": 2, "total_steps": 8, "metrics": {"loss": 0.5}}, ["note"]
        )
    text = stream.getvalue()
    assert "training:  25%" in text
    assert "2/8 steps" in text
    assert "loss 0.5" in text
    assert "note\n" in text


def test_describe_before_anything_is_known() -> None:
    assert describe({}) == "starting"
