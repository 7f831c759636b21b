from __future__ import annotations

import io
import math

import pytest

from sam2vt.distributed.sweep.outputs import gain
from sam2vt.distributed.sweep.results import DONE, FAILED, JF, RUNNING, STOPPED, Objective, SweepResult, Trial
from sam2vt.distributed.sweep.watch import SweepTable, format_trials, shown


class Terminal(io.StringIO):
    """A stream that says of itself that it is a terminal."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1


def trial(number: int, status: str, *scores: float, lr: float = 1e-4) -> Trial:
    rows = [{"step": 10 * i, JF: score} for i, score in enumerate(scores, 1)]
    values = {"optimizer.lr": lr} if number else {}
    return Trial(number, values, status, "it diverged" if status == FAILED else "", rows, seconds=60.0)


def result(*trials: Trial) -> SweepResult:
    objectives = (Objective(JF, "max"),)
    return SweepResult("a", trials, objectives, ("optimizer.lr",), defaults={"optimizer.lr": 1e-5})


def test_without_a_terminal_there_is_a_line_for_each_trial_that_ended() -> None:
    stream = io.StringIO()
    table = SweepTable(num_trials=4, concurrent=2, stream=stream)
    for _ in range(3):
        table.update(result(trial(0, DONE, 0.1, 0.3), trial(1, RUNNING, 0.2)))
    table.update(result(trial(0, DONE, 0.1, 0.3), trial(1, FAILED), trial(2, STOPPED, 0.2)))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert (
        "trial_000 done: val/J&F 0.3 at step 20; the default; 1 of 4 trials ended, about 2 min left"
        in lines[0]
    )
    assert "trial_001 failed (it diverged): val/J&F - at step 0; optimizer.lr 0.0001" in lines[1]
    assert "trial_002 stopped: val/J&F 0.2" in lines[2]


def test_a_terminal_shows_one_table_that_is_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.get_terminal_size", lambda _: type("Size", (), {"columns": 60})())
    monkeypatch.setattr("shutil.get_terminal_size", lambda: (60, 24))
    stream = Terminal()
    table = SweepTable(num_trials=2, concurrent=1, stream=stream)
    table.update(result(trial(0, RUNNING, 0.1)))
    table.update(result(trial(0, RUNNING, 0.2)))  # too soon to be drawn
    table.update(last=True, result=result(trial(0, DONE, 0.3), trial(1, RUNNING)))
    first, second = stream.getvalue().split("\x1b[3F\x1b[J")
    assert "running" in first
    assert "0.2" not in first
    assert "done" in second
    assert all(len(line) < 60 for line in second.splitlines())


def test_the_best_comes_first_and_the_default_shows_its_values() -> None:
    lines = format_trials(result(trial(0, DONE, 0.1), trial(1, RUNNING), trial(2, DONE, 0.5)))
    assert [line.split()[0] for line in lines] == ["trial", "trial_002", "trial_000", "trial_001"]
    assert lines[2].split() == ["trial_000", "done", "10", "0.1", "1e-05"]


def test_a_long_table_is_cut_and_says_so() -> None:
    trials = [trial(number, DONE, 0.1) for number in range(9)]
    assert format_trials(result(*trials), 5)[-1] == "... and 4 more"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.1235"), (math.nan, "-"), (["point", "box"], "point,box"), (True, "True"), (3, "3")],
)
def test_values_take_few_characters(value: object, text: str) -> None:
    assert shown(value) == text


def test_what_tuning_gained() -> None:
    assert gain(result(trial(0, DONE, 0.2), trial(1, DONE, 0.5))) == (
        "best val/J&F: 0.5 (trial_001); unswept 0.2, gained +0.3000"
    )
    assert gain(result(trial(0, FAILED))) == "no trial ran to its end"
    assert "nothing to compare" in gain(result(trial(0, FAILED), trial(1, DONE, 0.5)))
