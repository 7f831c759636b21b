"""Conversion of Ray Tune's trials into a `SweepResult`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import ray.exceptions
from ray import tune
from ray.tune.experiment import Trial as TuneTrial

from sam2vt.config import OBJECTIVES
from sam2vt.configuration.sweep import Sweep
from sam2vt.distributed.cluster.storage import RunStorage
from sam2vt.distributed.launch import own_error
from sam2vt.distributed.sweep.results import (
    DEFAULT,
    DONE,
    FAILED,
    RUNNING,
    STOPPED,
    Objective,
    SweepResult,
    Trial,
    trial_number,
)
from sam2vt.distributed.sweep.trial import FINISHED, OBJECTIVE_KEYS


def objectives_of(sweep: Sweep) -> tuple[Objective, ...]:
    """Return the objectives of a sweep, the deciding one first."""
    return tuple(Objective(name, OBJECTIVES[name]) for name in sweep.settings.objectives)


class _Seen(NamedTuple):
    """A trial as Tune knows it."""

    name: str
    config: Mapping[str, Any]
    newest: Mapping[str, Any]  # its last result
    status: str
    rows: Sequence[Mapping[str, float]]
    reason: str = ""


def result_so_far(sweep: Sweep, storage: RunStorage, trials: Iterable[TuneTrial]) -> SweepResult:
    """Return the state while Tune runs: the newest numbers of each trial, with the best objectives so far."""
    begun = (trial for trial in trials if trial.status != TuneTrial.PENDING)
    return _result(sweep, storage, [_live(trial, objectives_of(sweep)) for trial in begun])


def final_result(sweep: Sweep, storage: RunStorage, grid: tune.ResultGrid) -> SweepResult:
    """Return the result once Tune has ended: all validations of each trial, and the reason if it failed."""
    return _result(sweep, storage, [_ended(grid[i]) for i in range(len(grid))])


def reason_of(error: BaseException | None) -> str:
    """Return in one line why a trial failed."""
    if error is None:
        return ""
    if (own := own_error(error)) is not None:
        return _line(str(own))
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "out of memory: Ray ended its process"
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, ray.exceptions.RayActorError):
        return f"its process died: {_line(str(cause))}"
    return f"{type(cause).__name__}: {_line(str(cause))}"


def _result(sweep: Sweep, storage: RunStorage, seen: Iterable[_Seen]) -> SweepResult:
    space = sweep.space
    return SweepResult(
        name=PurePosixPath(storage.root).name,
        trials=sorted((_trial(each, sweep, storage) for each in seen), key=lambda trial: trial.number),
        objectives=objectives_of(sweep),
        fields=space.fields,
        log_fields=frozenset(each.name for each in space.dimensions if each.is_log),
        root=storage.root,
        defaults={name: space.defaults[name] for name in space.fields},
    )


def _trial(seen: _Seen, sweep: Sweep, storage: RunStorage) -> Trial:
    number = trial_number(seen.name)
    values = {} if number == DEFAULT else dict(seen.config.get("point", {}).get("values", {}))
    stopped = f"behind the others, ended by sweep.scheduler={sweep.settings.scheduler}"
    reason = stopped if seen.status == STOPPED else seen.reason
    seconds, folder = float(seen.newest.get("time_total_s", 0.0)), storage.join("trials", seen.name)
    return Trial(number, values, seen.status, reason, seen.rows, seconds, folder)


def _live(trial: TuneTrial, objectives: Sequence[Objective]) -> _Seen:
    newest = trial.last_result or {}
    scores = {each.name: newest[name] for name, each in zip(OBJECTIVE_KEYS, objectives) if name in newest}
    row = {**_numbers(newest), **scores}
    status = {"TERMINATED": _ending(newest), "ERROR": FAILED}.get(trial.status, RUNNING)
    return _Seen(str(trial.custom_trial_name), trial.config, newest, status, [row] if "step" in row else [])


def _ended(result: Any) -> _Seen:
    newest = result.metrics or {}
    status = FAILED if result.error is not None else _ending(newest)
    name, config = PurePosixPath(result.path).name, result.config or newest.get("config") or {}
    return _Seen(name, config, newest, status, _rows(result.metrics_dataframe), reason_of(result.error))


def _ending(newest: Mapping[str, Any]) -> str:
    return DONE if newest.get(FINISHED) else STOPPED


def _rows(table: Any) -> list[dict[str, float]]:
    """Return one row per validation; of a step that was repeated after an interruption, the last one."""
    rows = [] if table is None else map(_numbers, table.to_dict("records"))
    by_step = {int(row["step"]): row for row in rows if "step" in row}
    return [by_step[step] for step in sorted(by_step)]


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a validation, without Tune's own."""
    names = ("step", "seconds", "progress", *OBJECTIVES)
    return {
        name: float(value)
        for name, value in record.items()
        if (name in names or str(name).startswith("val/")) and isinstance(value, Real) and value == value
    }


def _line(text: str) -> str:
    """Return the line that says most of a long message: the last unindented one, without Ray's guesses."""
    lines: list[str] = []
    for line in text.strip().splitlines():
        if not line.startswith(" "):
            lines.append(line.strip())
        elif lines and lines[-1].endswith((":", ";")):  # a list of faults belongs to its heading
            lines[-1] = f"{lines[-1]} {line.strip().removeprefix('- ')};"
    said = [line.rstrip(";") for line in lines if line]
    line = (said or [text.strip()])[-1].removeprefix("sam2vt.errors.").partition(" Some common causes")[0]
    return line.removeprefix("TrainingError: ")[:300]
