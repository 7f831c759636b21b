"""The results of a sweep as plain values; nothing here knows Ray."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DEFAULT = 0  # the number of the trial that changes nothing
JF = "val/J&F"

DONE, STOPPED, FAILED, RUNNING = "done", "stopped", "failed", "running"


@dataclass(frozen=True)
class Objective:
    """A number of a validation by which trials are compared, and whether the highest is best."""

    name: str  # as in results.csv: val/J&F, or seconds_per_step
    mode: str  # max or min

    def order(self, value: float) -> tuple[bool, float]:
        """Return the key that sorts values from the best to the worst, NaN last."""
        unknown = math.isnan(value)
        return unknown, 0.0 if unknown else -value if self.mode == "max" else value

    def better(self, a: float, b: float) -> bool:
        """Return whether `a` is better than `b`; every number is better than NaN, NaN than nothing."""
        return self.order(a) < self.order(b)


@dataclass(frozen=True)
class Trial:
    """One run of the sweep."""

    number: int  # by start; DEFAULT is the unswept configuration
    values: Mapping[str, Any]  # swept fields by dotted name, without those whose condition does not hold
    status: str  # DONE: ran to its end; STOPPED by the scheduler; FAILED; RUNNING
    reason: str = ""  # why it failed or was stopped, in a line
    # One row per validation by step: "step", "seconds" since the trial began, "val/..." and rates.
    rows: Sequence[Mapping[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    folder: str = ""  # of the run: a local path or a URI

    @property
    def name(self) -> str:
        """The name of its folder, too."""
        return trial_name(self.number)

    @property
    def steps(self) -> int:
        """Optimizer steps at its last validation."""
        return int(self.rows[-1].get("step", 0)) if self.rows else 0

    def best(self, objective: Objective) -> float:
        """Return the best value after the first step, NaN if there is none."""
        return self.best_row(objective).get(objective.name, math.nan)

    def best_row(self, objective: Objective) -> Mapping[str, float]:
        """Return the first validation with the best value after the first step, empty if there is none."""
        name = objective.name
        trained = (row for row in self.rows if row.get("step", 0) > 0)
        rows = [row for row in trained if not math.isnan(row.get(name, math.nan))]
        return min(rows, key=lambda row: objective.order(row[name]), default={})


@dataclass(frozen=True)
class SweepResult:
    """A sweep that runs or has ended."""

    name: str
    trials: Sequence[Trial]  # by number
    objectives: Sequence[Objective]  # the first decides
    fields: Sequence[str]  # all swept fields
    log_fields: frozenset[str] = frozenset()  # of them those searched on a logarithmic scale
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of the swept fields, in the default trial
    root: str = ""  # the sweep's folder: a local path or a URI

    @property
    def default(self) -> Trial | None:
        """The trial of the unswept configuration."""
        return next((trial for trial in self.trials if trial.number == DEFAULT), None)

    def values_of(self, trial: Trial) -> Mapping[str, Any]:
        """Return the swept settings of a trial; the default trial has those of the configuration."""
        return trial.values or (self.defaults if trial.number == DEFAULT else {})

    @property
    def best(self) -> Trial | None:
        """The best trial that ran to its end."""
        return next(iter(self.ranked()), None)

    def ranked(self) -> list[Trial]:
        """Return the trials that ran to their end and were validated, best first, of equals the earliest."""
        objective = self.objectives[0]
        done = [t for t in self.trials if t.status == DONE and not math.isnan(t.best(objective))]
        return sorted(done, key=lambda trial: (objective.order(trial.best(objective)), trial.number))

    def pareto(self) -> list[Trial]:
        """Return the ranked trials that no other beats in one objective without losing in another."""
        ranked = self.ranked()
        return [trial for trial in ranked if not any(self._dominates(other, trial) for other in ranked)]

    def _dominates(self, a: Trial, b: Trial) -> bool:
        pairs = [(each.order(a.best(each)), each.order(b.best(each))) for each in self.objectives]
        return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def trial_name(number: int) -> str:
    """Return the name of a trial and of its folder."""
    return f"trial_{number:03d}"


def trial_number(name: str) -> int:
    """Return the number of the trial with this name."""
    return int(name.removeprefix("trial_"))
