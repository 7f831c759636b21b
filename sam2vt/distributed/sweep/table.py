"""A sweep as a table in the terminal; where there is no terminal, a line for each trial that ends."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from sam2vt.distributed.sweep.trials import RUNNING, SweepResult, Trial

_REDRAW_SECONDS = 1.0
_MOST_ROWS = 24


class SweepTable:
    """Shows a sweep as it goes on: `update` with each change, `close` at the end."""

    def __init__(self, num_trials: int, concurrent: int, stream: TextIO | None = None) -> None:
        self._num_trials, self._concurrent = num_trials, concurrent
        self._stream = stream or sys.stderr
        self._live = _is_terminal(self._stream)
        self._began = time.monotonic()
        self._said: set[int] = set()
        self._drawn, self._drawn_at = 0, -math.inf

    def update(self, result: SweepResult) -> None:
        if self._live:
            self._draw(result)
            return
        for trial in result.trials:
            if trial.status != RUNNING and trial.number not in self._said:
                self._said.add(trial.number)
                print(
                    f"[{self._seconds():5.0f} s] {self._line(trial, result)}", file=self._stream, flush=True
                )

    def close(self, result: SweepResult) -> None:
        """The last state, whenever the one before was drawn."""
        self._drawn_at = -math.inf
        self.update(result)

    def _draw(self, result: SweepResult) -> None:
        if time.monotonic() - self._drawn_at < _REDRAW_SECONDS:
            return
        columns, _ = shutil.get_terminal_size()
        lines = [line[: columns - 1] for line in [*format_trials(result, _MOST_ROWS), self._outlook(result)]]
        up = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
        self._stream.write(up + "\n".join(lines) + "\n")
        self._stream.flush()
        self._drawn, self._drawn_at = len(lines), time.monotonic()

    def _line(self, trial: Trial, result: SweepResult) -> str:
        values = ", ".join(f"{name} {shown(value)}" for name, value in trial.values.items()) or "the default"
        reason = f" ({trial.reason})" if trial.reason else ""
        name = result.objectives[0].name
        score = f"{name} {shown(trial.best(result.objectives[0]))} at step {trial.steps}"
        return f"{trial.name} {trial.status}{reason}: {score}; {values}; {self._outlook(result)}"

    def _outlook(self, result: SweepResult) -> str:
        ended = [trial for trial in result.trials if trial.status != RUNNING]
        left = self._num_trials - len(ended)
        text = f"{len(ended)} of {self._num_trials} trials ended"
        if not ended or not left:
            return text
        mean = sum(trial.seconds for trial in ended) / len(ended)
        return f"{text}, about {mean * left / self._concurrent / 60:.0f} min left"

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def format_trials(result: SweepResult, most: int | None = None) -> list[str]:
    """The trials as an aligned table, the best first, those that run or failed behind them."""
    ranked = result.ranked()
    names = {trial.number for trial in ranked}
    rows = [*ranked, *(trial for trial in result.trials if trial.number not in names)]
    head = ["trial", "status", "step", *(each.name for each in result.objectives), *result.fields]
    cells = [head, *(_cells(trial, result) for trial in rows[:most])]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]
    hidden = len(rows) - len(rows[:most])
    return lines + ([f"... and {hidden} more"] if hidden else [])


def shown(value: Any) -> str:
    """A value in few characters."""
    if isinstance(value, bool) or not isinstance(value, float):
        return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return "-" if math.isnan(value) else f"{value:.4g}"


def _cells(trial: Trial, result: SweepResult) -> Sequence[str]:
    values: Mapping[str, Any] = trial.values
    if not values:  # the default trial
        values = result.defaults
    swept = [shown(values[name]) if name in values else "" for name in result.fields]
    scores = [shown(trial.best(objective)) for objective in result.objectives]
    return [trial.name, trial.status, str(trial.steps), *scores, *swept]


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):
        return False
