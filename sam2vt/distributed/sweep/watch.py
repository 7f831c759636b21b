"""Show the table of a sweep while its trials run, and delete leftovers of ended trials."""

from __future__ import annotations

import logging
import math
import shutil
import sys
import time
from collections.abc import Collection, Sequence
from typing import Any, TextIO

from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from sam2vt.configuration.sweep import Sweep
from sam2vt.core.storage.folder import IS_FOLDER, Folder
from sam2vt.distributed.board import can_redraw
from sam2vt.distributed.cluster.storage import RAY_FOLDER, RunStorage
from sam2vt.distributed.source import RECORDS_FOLDER
from sam2vt.distributed.sweep.collect import result_so_far
from sam2vt.distributed.sweep.results import DEFAULT, RUNNING, SweepResult, Trial, trial_name
from sam2vt.distributed.sweep.trial import TAKEN_WEIGHTS

log = logging.getLogger(__name__)

_REDRAW_SECONDS = 1.0
_MOST_ROWS = 24
# What is deleted of the folder of every trial that has ended, and of one whose weights are not kept. Curves,
# scores and the configuration stay.
ALWAYS = (TAKEN_WEIGHTS, RAY_FOLDER, RECORDS_FOLDER)
HEAVY = ("checkpoints", "export", *ALWAYS)


class Watch(tune.Callback):
    """Updates the table and deletes leftovers; runs in the driver.

    Tune pickles it with the sweep, without the table, which belongs to a terminal.
    """

    def __init__(self, sweep: Sweep, storage: RunStorage, num_trials: int, concurrent: int) -> None:
        self._sweep, self._storage = sweep, storage
        self._num_trials, self._concurrent = num_trials, concurrent
        self._table: SweepTable | None = None
        self._over: set[str] = set()  # trials that came to their end

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None}

    def setup(self, *args: Any, **info: Any) -> None:
        """Begin the table, also of a sweep that is resumed."""
        self._table = SweepTable(self._num_trials, self._concurrent)

    def on_trial_result(
        self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, result: dict, **info: Any
    ) -> None:
        """Show the new numbers."""
        self._update(trials)

    def on_trial_complete(
        self, iteration: int, trials: Sequence[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Show how the trial ended, and delete its leftovers."""
        self._over.add(trial.trial_id)
        result = self._update(trials)
        remove_leftovers(result, self._storage, self._sweep.settings.keep_best)

    on_trial_error = on_trial_complete

    def on_experiment_end(self, trials: Sequence[TuneTrial], **info: Any) -> None:
        """Draw the last state."""
        # By now Tune counts trials as ended that a signal cut short.
        self._update([trial for trial in trials if trial.trial_id in self._over], last=True)

    def _update(self, trials: Sequence[TuneTrial], last: bool = False) -> SweepResult:
        assert self._table is not None
        result = result_so_far(self._sweep, self._storage, trials)
        self._table.update(result, last)
        return result


class SweepTable:
    """Shows a sweep in the terminal: a table that is redrawn, or else one line per trial that ends."""

    def __init__(self, num_trials: int, concurrent: int, stream: TextIO | None = None) -> None:
        self._num_trials, self._concurrent = num_trials, concurrent
        self._stream = stream or sys.stderr
        self._live = can_redraw(self._stream)
        self._began = time.monotonic()
        self._said: set[int] = set()
        self._drawn, self._drawn_at = 0, -math.inf

    def update(self, result: SweepResult, last: bool = False) -> None:
        """Show the sweep after a change; the `last` state is always drawn."""
        if self._live:
            if last or time.monotonic() - self._drawn_at >= _REDRAW_SECONDS:
                self._draw(result)
            return
        for trial in result.trials:
            if trial.status != RUNNING and trial.number not in self._said:
                self._said.add(trial.number)
                seconds = time.monotonic() - self._began
                print(f"[{seconds:5.0f} s] {self._line(trial, result)}", file=self._stream, flush=True)

    def _draw(self, result: SweepResult) -> None:
        columns, _ = shutil.get_terminal_size()
        lines = [line[: columns - 1] for line in [*format_trials(result, _MOST_ROWS), self._outlook(result)]]
        # Back to the first line of the last table, and clear from there.
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


def format_trials(result: SweepResult, most: int | None = None) -> list[str]:
    """Return the trials as lines of an aligned table: finished ones, the best first, then the others."""
    ranked = result.ranked()
    rows = [*ranked, *(trial for trial in result.trials if trial not in ranked)]
    head = ["trial", "status", "step", *(each.name for each in result.objectives), *result.fields]
    cells = [head, *(_cells(trial, result) for trial in rows[:most])]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]
    hidden = len(rows) - len(rows[:most])
    return lines + ([f"... and {hidden} more"] if hidden else [])


def shown(value: Any) -> str:
    """Return a value in few characters."""
    if isinstance(value, bool) or not isinstance(value, float):
        return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return "-" if math.isnan(value) else f"{value:.4g}"


def _cells(trial: Trial, result: SweepResult) -> Sequence[str]:
    values = result.values_of(trial)
    swept = [shown(values[name]) if name in values else "" for name in result.fields]
    scores = [shown(trial.best(objective)) for objective in result.objectives]
    return [trial.name, trial.status, str(trial.steps), *scores, *swept]


def remove_leftovers(result: SweepResult, storage: RunStorage, keep_best: int) -> int:
    """Delete weights and Ray's files of ended trials, except for weights of the default and `keep_best` best.

    Returns the number of files and folders to delete, 0 when all is done.
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
