"""Short trainings on generated videos, without validation or records, for the benchmarks around a step."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ALWAYS = (
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.limit_val_batches=0",
    "trainer.enable_checkpointing=false",
    "trainer.enable_progress_bar=false",
    "trainer.logger=false",
    "trainer.num_overlay_videos=0",
    "scheduler=constant",
    "dataset.prompt_types=[mask]",
    "dataset.clips_per_video=1000",
)
# One clip of four frames per step, in place of the demo's recipe.
FOUR_FRAMES = (
    *("max_objects=3", "dataset.batch_size=1", "dataset.video_clip_length=4"),
    *("dataset.max_frame_stride=null", "dataset.prompt_types=[mask,point]"),
)
NANO = ("model=nano",)
TINY = ("model=tiny", "model.checkpoint_path=null", "model.image_size=256")


def overrides(data: Path, run: Path, *more: str) -> list[str]:
    return [*ALWAYS, f"dataset.data_path={data}", f"output_dir={run}", *more]


def sample_data(folder: Path, videos: int = 2) -> Path:
    """Generated videos, the first with two objects, the second with one."""
    run("-m", "sam2vt.cli", "sample-data", str(folder), "--videos", str(videos), "--frames", "24")
    return folder


def train(arguments: Sequence[str]) -> str:
    """What `sam2vt train` prints."""
    return run("-m", "sam2vt.cli", "train", *arguments)


def run(*arguments: str) -> str:
    """What Python prints on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout + done.stderr


def row(name: str, ours: Sequence[float], theirs: Sequence[float], unit: str, goal: str) -> str:
    a, b = statistics.median(ours), statistics.median(theirs)
    return f"| {name} | {a:.3f} {unit} | {b:.3f} {unit} | {ratio(ours, theirs):.3f} | {goal} |"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of those of each turn."""
    return statistics.median(a / b for a, b in zip(ours, theirs))
