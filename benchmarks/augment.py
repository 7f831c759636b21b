"""The cost of augmentation for a process that draws clips: clips per second of one core, and memory.

Each preset of configs/dataset/augment draws the same clips in its own process. Without augmentation that
process loads no torch. Without DATA the videos are generated, 256x192.

    python benchmarks/augment.py [DATA] [--clips 40] [--image-size 512] [--length 8] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

from machine import argument_parser, in_short, machine, spread, write_record

PRESETS = ("none", "sam2", "strong", "heavy")
REPEATS = 3


def draw_clips(given: dict[str, Any]) -> None:
    """Prints clips a second of each repeat, and the highest memory in MB."""
    import cv2

    from sam2vt.config import AugmentConfig
    from sam2vt.core.data.clips.drawing import draw_clip
    from sam2vt.core.data.clips.prompts import PromptGenerator
    from sam2vt.core.data.clips.spec import ClipSpec
    from sam2vt.core.data.formats import load_records
    from sam2vt.core.types import SampleKey

    cv2.setNumThreads(0)
    records = load_records("auto", given["data"])
    size = (given["image_size"], given["image_size"])
    augment = AugmentConfig(**given["augment"])
    spec = ClipSpec(size, given["length"], PromptGenerator(), max_objects=3, augment=augment)
    draw_clip(records, SampleKey(1, 0), spec)
    rates = []
    for _ in range(REPEATS):
        began = time.process_time()
        for index in range(given["clips"]):
            draw_clip(records, SampleKey(0, index), spec)
        rates.append(given["clips"] / (time.process_time() - began))
    print(json.dumps([rates, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000]))


def measure(preset: str, data: str, options: argparse.Namespace) -> tuple[list[float], float]:
    from omegaconf import OmegaConf

    from sam2vt.composing import compose_config

    composed = compose_config([f"dataset/augment={preset}"])
    given = {
        "data": data,
        "augment": OmegaConf.to_container(composed.dataset.augment),
        "clips": options.clips,
        "image_size": options.image_size,
        "length": options.length,
    }
    command = [sys.executable, __file__, "--draw", json.dumps(given)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    rates, megabytes = json.loads(done.stdout)
    return rates, megabytes


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("data", nargs="?", help="whatever dataset.data_path may be")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--image-size", type=int, default=512)
    parser.add_argument("--length", type=int, default=8, help="frames of a clip")
    parser.add_argument("--draw", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.draw:
        return draw_clips(json.loads(options.draw))
    with tempfile.TemporaryDirectory(prefix="augment-") as folder:
        data = options.data or write_videos(Path(folder) / "data")
        found = {preset: measure(preset, data, options) for preset in PRESETS}
    what = Path(data).name if options.data else "generated videos of 256x192"
    lines = [
        f"# Augmentation, {date.today():%B %Y}",
        "",
        f"Machine: {machine()}; Python {sys.version.split()[0]}; {date.today().isoformat()}.",
        f"Clips of {options.length} frames of {what} at {options.image_size} px, up to 3 objects.",
        f"Seconds of one core. Median of {REPEATS} runs over {options.clips} clips (lowest to highest).",
        "",
        "| `dataset/augment` | clips a second | MB of a process at most |",
        "|---|---:|---:|",
        *(f"| {preset} | {spread(rates)} | {mb:.0f} |" for preset, (rates, mb) in found.items()),
        "",
        in_short(
            ", ".join(f"{name} {median(rates):.1f}" for name, (rates, _) in found.items())
            + " clips per second"
        ),
    ]
    write_record("\n".join(lines), options.out)


def write_videos(folder: Path) -> str:
    from sam2vt.core.data.writing.sample_data import write_sample_data

    write_sample_data(str(folder), num_videos=3, num_frames=60)
    return str(folder)


if __name__ == "__main__":
    main()
