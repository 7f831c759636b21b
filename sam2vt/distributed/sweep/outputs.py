"""Write the results of a sweep: `trials.csv`, `sweep.html`, `best/` with weights and configuration."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sam2vt.configuration.loading import to_dict
from sam2vt.configuration.sweep import Sweep
from sam2vt.core.storage.folder import Folder, download
from sam2vt.distributed.cluster.storage import RunStorage
from sam2vt.distributed.sweep.report.page import write_report
from sam2vt.distributed.sweep.results import SweepResult, Trial
from sam2vt.distributed.sweep.watch import format_trials, shown

TRIALS_CSV, REPORT, BEST = "trials.csv", "sweep.html", "best"
EXPERIMENT, WEIGHTS = "experiment.yaml", "best.ckpt"
# The places of a run, which the next one chooses anew.
_OWN = ("output_dir", "save_dir", "resume")
_OWN_RAY = ("address", "storage_path", "name")
_PICTURES = (".png", ".gif")


def write_outputs(result: SweepResult, sweep: Sweep, storage: RunStorage) -> None:
    """Write the files into the sweep's storage. Raises OSError."""
    with TemporaryDirectory() as folder:
        local = Path(folder)
        (local / TRIALS_CSV).write_text(trials_csv(result))
        shown = {trial.number: _overlays(trial) for trial in (result.best, result.default) if trial}
        write_report(result, local / REPORT, shown)
        for name in (TRIALS_CSV, REPORT):
            storage.folder().upload(local / name, name)
        if result.best is not None:
            _write_best(result.best, sweep, storage, local)


def trials_csv(result: SweepResult) -> str:
    """Return one row per trial: how it ended, its best validation, its swept values, its folder."""
    text = io.StringIO()
    objectives = [each.name for each in result.objectives]
    others = [name for name in ("val/J&F", "val/J", "val/F") if name not in objectives]
    head = ["trial", "status", "reason", "steps", "seconds", *objectives, *others, *result.fields, "folder"]
    writer = csv.DictWriter(text, head)
    writer.writeheader()
    for trial in result.trials:
        best = trial.best_row(result.objectives[0])
        scores = {name: best.get(name, "") for name in (*objectives, *others)}
        own = {"trial": trial.name, "status": trial.status, "reason": trial.reason, "steps": trial.steps}
        rest = {"seconds": round(trial.seconds, 1), "folder": trial.folder}
        writer.writerow({**own, **scores, **result.values_of(trial), **rest})
    return text.getvalue()


def experiment(sweep: Sweep, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a trial without its folders, for `experiment=`."""
    content = to_dict(sweep.base.config(values))
    for name in _OWN:
        del content[name]
    for name in _OWN_RAY:
        del content["ray"][name]
    return content


def _write_best(trial: Trial, sweep: Sweep, storage: RunStorage, local: Path) -> None:
    from omegaconf import OmegaConf

    (local / BEST).mkdir()
    head = f"# @package _global_\n# {trial.name} of {storage.root}; train it anew, or on other data, with\n"
    text = f"{head}#   experiment=THIS_FILE\n{OmegaConf.to_yaml(experiment(sweep, trial.values))}"
    (local / BEST / EXPERIMENT).write_text(text)
    download(f"{trial.folder}/checkpoints/{WEIGHTS}", local / BEST / WEIGHTS)
    storage.folder().upload(local / BEST, BEST)


def _overlays(trial: Trial) -> Sequence[tuple[str, bytes]]:
    """Return (name, content) of the pictures that a run drew at its end."""
    folder = Folder(f"{trial.folder}/overlays")
    return [(name, folder.read(name)) for name in sorted(folder.sizes()) if name.endswith(_PICTURES)]


def summary(result: SweepResult) -> str:
    """Return the trials, the gain over the unswept configuration, and the paths, as text."""
    storage = RunStorage(result.root)
    lines = [*format_trials(result), "", gain(result), ""]
    if len(result.objectives) > 1:
        lines += ["no trial is better in both: " + ", ".join(each.name for each in result.pareto()), ""]
    files = {"report": REPORT, "trials": TRIALS_CSV, "best": f"{BEST}/{WEIGHTS}"}
    lines += [f"{name:<12}{storage.join(path)}" for name, path in files.items()]
    lines += [f"{'train it':<12}python ray_jobs/train.py experiment={storage.join(BEST, EXPERIMENT)}"]
    return "\n".join(lines)


def gain(result: SweepResult) -> str:
    """Compare the best trial with the unswept one in a line."""
    objective, best, default = result.objectives[0], result.best, result.default
    if best is None:
        return "no trial ran to its end"
    text = f"best {objective.name}: {shown(best.best(objective))} ({best.name})"
    unswept = default.best(objective) if default else math.nan
    if math.isnan(unswept):
        return f"{text}; the unswept configuration came to nothing to compare"
    return f"{text}; unswept {shown(unswept)}, gained {best.best(objective) - unswept:+.4f}"
