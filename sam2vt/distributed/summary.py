"""The summary of a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sam2vt.config import Config
from sam2vt.core.evaluation.jf import METRICS, MONITOR
from sam2vt.distributed.cluster.storage import RunStorage


@dataclass(frozen=True)
class RunSummary:
    """Scores are mappings with step, J, F and J&F; None if there was no validation.

    As text, a table of them and the paths of the results.
    """

    run_folder: str
    steps: int
    clips_per_second: float
    judged_on_training_videos: bool
    first: dict[str, float] | None = None  # before any step
    best: dict[str, float] | None = None
    last: dict[str, float] | None = None
    hold_first: dict[str, float] | None = None  # repeating each object's first mask
    files: dict[str, str] = field(default_factory=dict)  # name -> path
    prediction: str | None = None  # a command that tries the run's best checkpoint on one of its videos

    def __str__(self) -> str:
        lines = [*_table(self), "", f"clips per second  {self.clips_per_second:.2f} over {self.steps} steps"]
        lines += [f"{name:<18}{path}" for name, path in {"run folder": self.run_folder, **self.files}.items()]
        if self.judged_on_training_videos:
            lines += ["", _ON_TRAINING_VIDEOS]
        if self.prediction:
            lines += ["", "next: masks on new videos (docs/masks-on-new-videos.md), such as"]
            lines += [f"  {self.prediction}"]
        return "\n".join(lines)


_ON_TRAINING_VIDEOS = (
    "These are scores on the very videos that were trained on: they show that the model learns, not that\n"
    "it generalises. Hold videos back with split=video or split=time, or give valdataset.data_path."
)


def summarise(
    config: Config,
    storage: RunStorage,
    rows: Sequence[Mapping[str, Any]],
    exported: str | None,
    **numbers: Any,
) -> RunSummary:
    """Return the summary of a run with these `rows` in results.csv, and the file `exported`, if any.

    `numbers` are its steps, clips_per_second and hold_first.
    """
    files = {"curves": "results.png", "numbers": "results.csv"}
    if config.trainer.num_overlay_videos:
        files["overlays"] = "overlays"
    if exported:
        files["SAM 2 checkpoint"] = exported
    scored = [_scores(row) for row in rows if MONITOR in row]
    trained = [scores for scores in scored if scores["step"] > 0]
    return RunSummary(
        run_folder=storage.root,
        judged_on_training_videos=not config.valdataset.is_given and config.split == "none",
        first=scored[0] if scored else None,
        best=max(trained, key=lambda scores: scores["J&F"], default=None),
        last=trained[-1] if trained else None,
        files={name: storage.join(path) for name, path in files.items()},
        **numbers,
    )


def _scores(row: Mapping[str, Any]) -> dict[str, float]:
    return {"step": float(row["step"]), **{name: float(row[f"val/{name}"]) for name in METRICS}}


def _table(summary: RunSummary) -> list[str]:
    rows = {
        "before training": summary.first,
        "after (best)": summary.best,
        "after (last)": summary.last,
        "first mask held": summary.hold_first,
    }
    lines = [f"{'':<18}{'J':>7}{'F':>7}{'J&F':>7}"]
    for name, scores in rows.items():
        if scores is not None:
            step = f"   step {scores['step']:.0f}" if "step" in scores else ""
            lines.append(f"{name:<18}" + "".join(f"{scores[key]:7.3f}" for key in ("J", "F", "J&F")) + step)
    return lines
