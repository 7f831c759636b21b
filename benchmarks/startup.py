"""`sam2vt train` from its start to the end of one step, against importing torch, Lightning and SAM 2.

python benchmarks/startup.py [--turns 5] [--out FILE.md]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

from machine import argument_parser, in_short, machine, versions, write_record
from trainings import NANO, overrides, ratio, row, run, sample_data, train

IMPORTS = "import torch, lightning, sam2.modeling.sam2_base"
GOAL = 1.5


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="startup-") as name:
        data = sample_data(Path(name) / "data")
        one_step = (
            "trainer.max_steps=1",
            "dataset.num_workers=0",
            "dataset.video_clip_length=4",
            "max_objects=2",
        )
        arguments = overrides(data, Path(name) / "run", *NANO, *one_step)
        starts, imports = [], []
        for _ in range(options.turns):
            imports.append(seconds(lambda: run("-c", IMPORTS)))
            starts.append(seconds(lambda: train(arguments)))
    text = "\n".join(
        [
            f"# Start of a training, {date.today():%B %Y}",
            "",
            f"Machine: {machine()}; {versions()}, one thread; {date.today().isoformat()}.",
            f"Medians of {options.turns} turns; the ratio is the median of those of each turn.",
            "",
            "| what | sam2vt train | the imports | ratio | goal |",
            "|---|---:|---:|---:|---|",
            row("start to the end of a step of nano", starts, imports, unit="s", goal=f"at most {GOAL}"),
            "",
            in_short(f"the first step ends after {ratio(starts, imports):.2f} x the time of the imports"),
        ]
    )
    write_record(text, options.out)


if __name__ == "__main__":
    main()
