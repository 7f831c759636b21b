"""What a finished sweep says of itself."""

from __future__ import annotations

import math

from sam2vt.configuration.sweep import Sweep
from sam2vt.distributed.cluster.storage import run_storage
from sam2vt.distributed.sweep.outputs import BEST, EXPERIMENT, REPORT, TRIALS_CSV, WEIGHTS
from sam2vt.distributed.sweep.table import format_trials, shown
from sam2vt.distributed.sweep.trials import SweepResult


def summary(result: SweepResult, sweep: Sweep) -> str:
    """The trials, what tuning gained over the unswept configuration, and where everything lies."""
    storage = run_storage(sweep.base.config({}))
    lines = [*format_trials(result), "", gain(result), ""]
    if len(result.objectives) > 1:
        lines += ["no trial is better in both: " + ", ".join(each.name for each in result.pareto()), ""]
    files = {"report": REPORT, "trials": TRIALS_CSV, "best": f"{BEST}/{WEIGHTS}"}
    lines += [f"{name:<12}{storage.join(path)}" for name, path in files.items()]
    lines += [f"{'again':<12}python ray_jobs/train.py experiment={storage.join(BEST, EXPERIMENT)}"]
    return "\n".join(lines)


def gain(result: SweepResult) -> str:
    """In a line, the best trial beside the unswept one."""
    objective, best, default = result.objectives[0], result.best, result.default
    if best is None:
        return "no trial ran to its end"
    text = f"best {objective.name}: {shown(best.best(objective))} ({best.name})"
    unswept = default.best(objective) if default else math.nan
    if math.isnan(unswept):
        return f"{text}; the unswept configuration came to nothing to compare"
    return f"{text}; unswept {shown(unswept)}, gained {best.best(objective) - unswept:+.4f}"
