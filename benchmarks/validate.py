"""The time of `sam2vt validate` for many small videos: headers alone, and every mask.

The videos are generated: frames as JPEG, label images as PNG.

    python benchmarks/validate.py [--videos 1000] [--frames 20] [--out FILE.md]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
from machine import argument_parser, in_short, machine, write_record
from PIL import Image

GOAL_SECONDS = 60.0
SIZE = (120, 160)


def write_videos(root: Path, num_videos: int, num_frames: int) -> None:
    """A square that moves over noise; every video has its own."""
    rng = np.random.default_rng(0)
    for video in range(num_videos):
        folders = [root / name / f"v{video:05d}" for name in ("JPEGImages", "Annotations")]
        for folder in folders:
            folder.mkdir(parents=True)
        noise = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        for frame in range(num_frames):
            labels = np.zeros(SIZE, np.uint8)
            labels[20:60, 3 * frame : 3 * frame + 40] = 1
            Image.fromarray(np.roll(noise, frame, 1)).save(folders[0] / f"{frame:05d}.jpg", quality=60)
            Image.fromarray(labels).save(folders[1] / f"{frame:05d}.png")


def seconds_of(root: Path, depth: str) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-m", "sam2vt.cli", "validate", str(root), "--read", depth]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=20, help="of each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="validate-") as folder:
        write_videos(Path(folder), options.videos, options.frames)
        seconds = {depth: seconds_of(Path(folder), depth) for depth in ("headers", "masks")}
    reached = "reached" if seconds["headers"] <= GOAL_SECONDS else "not reached"
    text = "\n".join(
        [
            f"# Validation of a dataset, {date.today():%B %Y}",
            "",
            f"Machine: {machine()}; Python {sys.version.split()[0]}; {date.today().isoformat()}.",
            f"{options.videos} videos, {options.frames} frames each, {SIZE[1]}x{SIZE[0]}.",
            "",
            "| read | seconds |",
            "|---|---:|",
            *(f"| {depth} | {each:.1f} |" for depth, each in seconds.items()),
            "",
            f"Goal: the metadata of 1,000 videos in at most {GOAL_SECONDS:.0f} s on 2 cores: {reached}.",
            "",
            in_short(
                f"{options.videos} videos of {options.frames} frames: {seconds['headers']:.1f} s, with every "
                f"mask {seconds['masks']:.1f} s"
            ),
        ]
    )
    write_record(text, options.out)


if __name__ == "__main__":
    main()
