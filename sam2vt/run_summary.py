"""The summary of a finished run, the same with and without Ray."""

from __future__ import annotations

import math
import posixpath
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sam2vt.config import Config
from sam2vt.core.evaluation.identity import SWAP_RATE, SWAP_RATE_MEANING, swap_rate
from sam2vt.core.evaluation.jf import METRICS, MONITOR, ObjectScore, mean_score
from sam2vt.core.evaluation.tables import HELD
from sam2vt.errors import DataError
from sam2vt.logs import digits

_ON_TRAINING_VIDEOS = """\
These are scores on the very videos that were trained on: they show that the
model learns, not that it generalises. Hold videos back with split=video or
split=time, or give valdataset.data_path."""


@dataclass(frozen=True)
class RunSummary:
    """Scores are mappings with step, J, F, J&F and perhaps a swap rate; None if there was no validation.

    As text, a table of them, the paths of the results and what to do next.
    """

    run_folder: str
    steps: int
    clips_per_second: float
    judged_on_training_videos: bool
    first: dict[str, float] | None = None  # before any step
    best: dict[str, float] | None = None
    last: dict[str, float] | None = None
    hold_first: dict[str, float] | None = None  # repeating each object's first mask
    # The same four of each further validation set, by its name; its `best` is at the step of the one above.
    further: dict[str, dict[str, dict[str, float] | None]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)  # name -> path
    next_commands: dict[str, str] = field(default_factory=dict)  # what it does -> a command

    def __str__(self) -> str:
        rate = f"{digits(self.clips_per_second)} over {self.steps} steps"
        paths = {"clips per second": rate, "run folder": self.run_folder, **self.files}
        own = {"first": self.first, "best": self.best, "last": self.last, "hold_first": self.hold_first}
        lines = _table("", own)
        for name, scores in self.further.items():
            lines += _table(name, scores)
        lines += [*(f"{name:<18}{text}" for name, text in paths.items())]
        if self.judged_on_training_videos:
            lines += ["", _ON_TRAINING_VIDEOS]
        if self.next_commands:
            lines += ["", "next:"]
        for what, command in self.next_commands.items():
            lines += [f"  {what}", f"    {command}"]
        return "\n".join(lines)


def end_of_run(
    trainer: Any, module: Any, root: str, checkpoints: str, exported: str | None = None
) -> RunSummary:
    """Return the summary of a fit that has ended, on rank 0.

    `root` is the run folder and `checkpoints` the folder of those, paths or URIs. `exported` is a checkpoint
    for stock SAM 2 in the run folder.
    """
    from sam2vt.core.storage.folder import Folder
    from sam2vt.core.training.callbacks.results_csv import ResultsCsv
    from sam2vt.core.training.callbacks.throughput import clips_per_second
    from sam2vt.core.training.checkpoints.store import BEST, LAST

    rows = next((each.rows for each in trainer.callbacks if isinstance(each, ResultsCsv)), [])
    found, checkpoint, commands = Folder(checkpoints).has(BEST, LAST), None, {}
    if found:
        checkpoint = posixpath.join(checkpoints, BEST if BEST in found else LAST)
        is_inside = posixpath.join(root, "checkpoints") == checkpoints
        commands = _next_commands(trainer, module, root if is_inside else checkpoint)
    return summarise(
        module.config,
        root,
        rows,
        checkpoint,
        exported,
        next_commands=commands,
        steps=trainer.global_step,
        clips_per_second=clips_per_second(trainer),
        hold_first=_mean(module.hold_first_scores) if module.hold_first_scores else None,
    )


def summarise(
    config: Config,
    root: str,
    rows: Sequence[Mapping[str, Any]],
    checkpoint: str | None,
    exported: str | None,
    **numbers: Any,
) -> RunSummary:
    """Return the summary of a run with these `rows` in results.csv.

    `numbers` are its steps, clips_per_second and hold_first, and its `next_commands`.
    """
    scored = [_scores(row) for row in rows if MONITOR in row]
    trained = [scores for scores in scored if scores["step"] > 0]
    best = max(trained, key=lambda scores: scores["J&F"], default=None)
    inside = {"curves": "results.png", "numbers": "results.csv"} if scored else {}
    if scored and config.trainer.num_overlay_videos:
        inside["overlays"] = "overlays"
    if exported:
        inside["SAM 2 checkpoint"] = exported
    files = {"checkpoint": checkpoint} if checkpoint else {}
    return RunSummary(
        run_folder=root,
        judged_on_training_videos=bool(scored) and not config.valdataset.is_given and config.split == "none",
        first=scored[0] if scored else None,
        best=best,
        last=trained[-1] if trained else None,
        further={name: _on_further(name, rows, best) for name in config.valdatasets},
        files={**files, **{name: posixpath.join(root, path) for name, path in inside.items()}},
        **numbers,
    )


def _next_commands(trainer: Any, module: Any, run: str) -> dict[str, str]:
    """Return commands that try a run's best checkpoint on one of its videos, and score it on others."""
    from sam2vt.core.prediction.suggestion import program, suggest_prediction

    config, videos = module.config, trainer.datamodule.val_records
    data = config.valdataset.data_path if config.valdataset.is_given else config.dataset.data_path
    against = ["--against", "zero-shot"] if config.model.checkpoint_path else []
    commands: dict[str, str] = {}
    # Without validation nobody has read these masks yet, and the run is done.
    with suppress(DataError):
        kinds = config.dataset.prompt_types
        found = suggest_prediction(run, videos, module.last_scores, kinds, data) if len(videos) else None
        commands |= {"masks on new videos (docs/masks-on-new-videos.md), such as": found} if found else {}
    evaluate = [*program(), "evaluate", run, "other_videos", *against]
    return {**commands, "scores on other videos": shlex.join(evaluate)}


def _on_further(
    name: str, rows: Sequence[Mapping[str, Any]], best: Mapping[str, float] | None
) -> dict[str, dict[str, float] | None]:
    """Return the scores on a further validation set; those of a set that a resume added begin there."""
    prefix = f"val/{name}/"
    found = [row for row in rows if f"{prefix}J&F" in row]
    scored = [_scores(row, prefix) for row in found]
    trained = [scores for scores in scored if scores["step"] > 0]
    held = {metric: f"{prefix}{metric}{HELD}" for metric in METRICS}
    has_held = bool(found) and all(column in found[-1] for column in held.values())
    return {
        "first": scored[0] if scored and scored[0]["step"] == 0 else None,
        "best": next((each for each in trained if best and each["step"] == best["step"]), None),
        "last": trained[-1] if trained else None,
        "hold_first": {metric: float(found[-1][held[metric]]) for metric in METRICS} if has_held else None,
    }


def _scores(row: Mapping[str, Any], prefix: str = "val/") -> dict[str, float]:
    swaps = [SWAP_RATE] if f"{prefix}{SWAP_RATE}" in row else []
    return {"step": float(row["step"])} | {name: float(row[f"{prefix}{name}"]) for name in (*METRICS, *swaps)}


def _mean(scores: Sequence[ObjectScore]) -> dict[str, float]:
    swapped = swap_rate(each.swaps for each in scores)
    return mean_score(scores).values | ({} if math.isnan(swapped) else {SWAP_RATE: swapped})


_ROWS = {
    "before training": "first",
    "after (best)": "best",
    "after (last)": "last",
    "first mask held": "hold_first",
}


def _table(heading: str, found: Mapping[str, Mapping[str, float] | None]) -> list[str]:
    rows = {name: scores for name, key in _ROWS.items() if (scores := found[key]) is not None}
    columns = {"J": "J", "F": "F", "J&F": "J&F"}
    if any(SWAP_RATE in scores for scores in rows.values()):
        columns["swaps"] = SWAP_RATE
    lines = [f"{heading:<18}" + "".join(f"{title:>7}" for title in columns)]
    for name, scores in rows.items():
        cells = [f"{scores[key]:7.3f}" if key in scores else " " * 7 for key in columns.values()]
        step = f"   step {scores['step']:.0f}" if "step" in scores else ""
        lines.append(f"{name:<18}{''.join(cells)}{step}".rstrip())
    legend = [f"swaps: {SWAP_RATE_MEANING}"] if "swaps" in columns else []
    return [*lines, *legend, ""] if rows else []
