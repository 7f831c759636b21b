"""`sam2vt estimate` against the memory that `sam2vt train` uses with the same settings.

The measured value is the highest resident size of the training process over two steps on generated videos,
with random weights and without validation.

    python benchmarks/estimate.py [--only tiny] [--out FILE.md]
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from machine import argument_parser, in_short, machine, versions, write_record
from PIL import Image

CLI = [sys.executable, "-m", "sam2vt.cli"]
GOAL = 0.15
OBJECTS, FRAMES, SIZE = 3, 8, 256
ALWAYS = (
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.max_steps=2",
    "trainer.limit_val_batches=0",
    "trainer.enable_checkpointing=false",
    "trainer.logger=false",
    "trainer.enable_progress_bar=false",
    "scheduler=constant",
    "dataset.num_workers=0",
    "dataset.prompt_types=[mask]",
    "dataset.clips_per_video=3",
    "model.checkpoint_path=null",
)
CASES = (
    "model=tiny model.image_size=256 max_objects=1 dataset.video_clip_length=4",
    "model=tiny model.image_size=256 max_objects=3 dataset.video_clip_length=8 model.trainable_modules=['*']",
    "model=tiny model.image_size=256 max_objects=3 dataset.video_clip_length=8 model.trainable_modules=['*'] "
    "model.recompute=[image_encoder,memory_attention,memory_encoder,mask_decoder]",
    "model=small model.image_size=256 max_objects=3 dataset.video_clip_length=4 dataset.prompt_types=[point] "
    "model.num_correction_clicks=2",
    "model=base_plus model.image_size=256 max_objects=3 dataset.video_clip_length=4 "
    "model.trainable_modules=['*']",
    "model=large model.image_size=256 max_objects=1 dataset.video_clip_length=4",
)


def write_videos(root: Path, num_videos: int = 2) -> None:
    """Squares that move over noise."""
    rng = np.random.default_rng(0)
    for video in range(num_videos):
        folders = [root / name / f"v{video}" for name in ("JPEGImages", "Annotations")]
        for folder in folders:
            folder.mkdir(parents=True)
        noise = rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
        for frame in range(2 * FRAMES):
            labels = np.zeros((SIZE, SIZE), np.uint8)
            for place in range(OBJECTS):
                top, left = place * SIZE // OBJECTS, 3 * frame
                labels[top : top + SIZE // 5, left : left + SIZE // 5] = place + 1
            Image.fromarray(np.roll(noise, frame, 1)).save(folders[0] / f"{frame:05d}.jpg")
            Image.fromarray(labels).save(folders[1] / f"{frame:05d}.png")


def measured_gb(overrides: list[str], folder: Path) -> float:
    """The highest resident size of a training; this process is small, as a child's count begins with it."""
    command = [*CLI, "train", *overrides, f"output_dir={folder / 'run'}"]
    with (folder / "log").open("w") as log:
        training = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(training.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)}\n{(folder / 'log').read_text()}")
    return used.ru_maxrss * 1024 / 1e9


def estimated_gb(estimate: subprocess.Popen[str]) -> float:
    output, errors = estimate.communicate()
    if estimate.returncode:
        sys.exit(errors)
    (total,) = re.findall(r"^in all.*?([\d.]+) GB$", output, re.MULTILINE)
    return float(total)


def compare(case: str) -> tuple[float, float]:
    """(estimated, measured) GB, beside each other in time: neither depends on how long it takes."""
    with tempfile.TemporaryDirectory(prefix="estimate-") as name:
        write_videos(Path(name) / "data")
        overrides = [*ALWAYS, f"dataset.data_path={name}/data", *case.split()]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen([*CLI, "estimate", *overrides], **pipes) as estimate:
            measured = measured_gb(overrides, Path(name))
            pair = estimated_gb(estimate), measured
    print(f"{case}: estimated {pair[0]:.2f}, measured {pair[1]:.2f}", flush=True)
    return pair


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--only", default="", help="cases whose text holds this")
    options = parser.parse_args()
    found = {case: compare(case) for case in CASES if options.only in case}
    ratios = [estimated / taken for estimated, taken in found.values()]
    within = sum(abs(ratio - 1) <= GOAL for ratio in ratios)
    text = "\n".join(
        [
            f"# Memory as estimated and as measured, {date.today():%B %Y}",
            "",
            f"Machine: {machine()}; {versions()}; {date.today().isoformat()}.",
            "",
            "| settings | estimated GB | measured GB | ratio |",
            "|---|---:|---:|---:|",
            *(
                f"| `{case}` | {estimated:.2f} | {taken:.2f} | {estimated / taken:.2f} |"
                for case, (estimated, taken) in found.items()
            ),
            "",
            f"Goal: within {GOAL:.0%} of what is measured: {within} of {len(ratios)}.",
            "",
            in_short(
                f"`sam2vt estimate` is {min(ratios):.2f} to {max(ratios):.2f} x the peak of `sam2vt train`"
            ),
        ]
    )
    write_record(text, options.out)


if __name__ == "__main__":
    main()
