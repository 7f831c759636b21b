"""Conversion of Ray Tune's trials into a `SweepResult`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import PurePosixPath
from typing import Any

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
    trial_name,
    trial_number,
)
from sam2vt.distributed.sweep.trial import FINISHED, METRICS

_PENDING = "PENDING"


def objectives_of(sweep: Sweep) -> tuple[Objective, ...]:
    """Return the objectives of a sweep, the deciding one first."""
    return tuple(Objective(name, OBJECTIVES[name]) for name in sweep.settings.objectives)


def result_so_far(sweep: Sweep, storage: RunStorage, trials: Iterable[TuneTrial]) -> SweepResult:
    """Return the state while Tune runs: the newest numbers of each trial, with the best objectives so far."""
    running = [trial for trial in trials if trial.status != _PENDING]
    return _result(sweep, storage, [_live(trial, sweep, storage) for trial in running])


def final_result(sweep: Sweep, storage: RunStorage, grid: tune.ResultGrid) -> SweepResult:
    """Return the result once Tune has ended: all validations of each trial, and the reason if it failed."""
    return _result(sweep, storage, [_ended(grid[i], sweep, storage) for i in range(len(grid))])


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


def _result(sweep: Sweep, storage: RunStorage, trials: Sequence[Trial]) -> SweepResult:
    space = sweep.space
    return SweepResult(
        name=PurePosixPath(storage.root).name,
        trials=sorted(trials, key=lambda trial: trial.number),
        objectives=objectives_of(sweep),
        fields=space.fields,
        log_fields=frozenset(each.name for each in space.dimensions if each.is_log),
        root=storage.root,
        defaults={name: space.defaults[name] for name in space.fields},
    )


def _live(trial: TuneTrial, sweep: Sweep, storage: RunStorage) -> Trial:
    newest = trial.last_result or {}
    scores = zip(METRICS, objectives_of(sweep))
    row = {**_numbers(newest), **{each.name: newest[name] for name, each in scores if name in newest}}
    status = {"TERMINATED": _ending(newest), "ERROR": FAILED}.get(trial.status, RUNNING)
    rows = [row] if "step" in row else []
    return _trial(str(trial.custom_trial_name), trial.config, newest, status, rows, sweep, storage)


def _ended(result: Any, sweep: Sweep, storage: RunStorage) -> Trial:
    newest = result.metrics or {}
    status = FAILED if result.error is not None else _ending(newest)
    config, name = result.config or newest.get("config") or {}, PurePosixPath(result.path).name
    found = _trial(name, config, newest, status, _rows(result.metrics_dataframe), sweep, storage)
    return replace(found, reason=reason_of(result.error) or found.reason)


def _trial(
    name: str,
    config: Mapping[str, Any],
    newest: Mapping[str, Any],
    status: str,
    rows: Sequence[Mapping[str, float]],
    sweep: Sweep,
    storage: RunStorage,
) -> Trial:
    number = trial_number(name)
    values = {} if number == DEFAULT else dict(config.get("point", {}).get("values", {}))
    reason = f"behind the others, ended by sweep.scheduler={sweep.settings.scheduler}"
    return Trial(
        number,
        values,
        status,
        reason if status == STOPPED else "",
        rows,
        seconds=float(newest.get("time_total_s", 0.0)),
        folder=storage.join("trials", trial_name(number)),
    )


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
