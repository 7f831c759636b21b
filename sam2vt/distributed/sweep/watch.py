"""What is done beside a sweep as its trials go on: the table is drawn, leftovers are removed."""

from __future__ import annotations

import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TextIO

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from sam2vt.configuration.sweep import Sweep
from sam2vt.core.storage.folder import IS_FOLDER, Folder
from sam2vt.distributed.cluster.storage import RAY_FOLDER, RunStorage
from sam2vt.distributed.source import RECORDS_FOLDER
from sam2vt.distributed.sweep.collect import result_so_far
from sam2vt.distributed.sweep.results import DEFAULT, RUNNING, SweepResult, Trial, trial_name
from sam2vt.distributed.sweep.trial import TAKEN_WEIGHTS


class Watch(tune.Callback):
    """Runs in the driver. Tune saves it with the sweep, without the table."""

    def __init__(self, sweep: Sweep, storage: RunStorage, num_trials: int, concurrent: int) -> None:
        self._sweep, self._storage = sweep, storage
        self._num_trials, self._concurrent = num_trials, concurrent
        self._table: SweepTable | None = None
        self._over: set[str] = set()  # trials that came to their end

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None}

    def setup(self, *args: Any, **info: Any) -> None:
        self._table = SweepTable(self._num_trials, self._concurrent)

    def on_trial_result(
        self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, result: dict, **info: Any
    ) -> None:
        self._update(trials)

    def on_trial_complete(
        self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._ended(trials, trial)

    def on_trial_error(
        self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        self._ended(trials, trial)

    def on_experiment_end(self, trials: Sequence[TuneTrial], **info: Any) -> None:
        """By now Tune calls those trials ended, too, that a signal cut short."""
        assert self._table is not None
        over = [trial for trial in trials if trial.trial_id in self._over]
        self._table.close(result_so_far(self._sweep, self._storage, over))

    def _ended(self, trials: Sequence[TuneTrial], trial: TuneTrial) -> None:
        self._over.add(trial.trial_id)
        self._update(trials)
        result = result_so_far(self._sweep, self._storage, trials)
        remove_leftovers(result, self._storage, self._sweep.settings.keep_best)

    def _update(self, trials: Sequence[TuneTrial]) -> None:
        assert self._table is not None
        self._table.update(result_so_far(self._sweep, self._storage, trials))


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


log = logging.getLogger(__name__)


# Of a trial's folder; what is left are its curves, scores and configuration.
ALWAYS = (TAKEN_WEIGHTS, RAY_FOLDER, RECORDS_FOLDER)


HEAVY = ("checkpoints", "export", *ALWAYS)


def remove_leftovers(result: SweepResult, storage: RunStorage, keep_best: int) -> int:
    """Delete weights and Ray's files of trials that have ended and are not among the `keep_best` best.

    Returns how many files and folders there were to delete.
    """
    kept = {DEFAULT, *(trial.number for trial in result.ranked()[:keep_best])}
    ended = (trial.number for trial in result.trials if trial.status != RUNNING)
    return sum(
        _delete(storage.folder("trials", trial_name(number)), ALWAYS if number in kept else HEAVY)
        for number in ended
    )


def remove_weights_in_transit(storage: RunStorage, folder: str) -> None:
    """Delete the checkpoints that trials handed to each other, below Tune's own `folder`."""
    for trial, size in storage.folder(folder).sizes().items():
        if size == IS_FOLDER:
            files = storage.folder(folder, trial)
            _delete(files, [name for name in files.sizes() if name.startswith("checkpoint_")])


def _delete(folder: Folder, names: Collection[str]) -> int:
    """Delete these files and folders, and return how many there were."""
    found = [name for name in folder.sizes() if name in names]
    for name in found:
        try:
            folder.delete(name)
        except OSError as error:  # a stopped trial may still write; the sweep's end deletes once more
            log.debug("%s stays for now: %s", folder.address(name), error)
    return len(found)
