"""Clips per second of two processes that train together over gloo, against one process.

Each process has one thread and each clip one object, so that both processes do the same work. Two
independent runs at once show the limit of the machine. A profile then splits a step of each side into
parts, also on clips of one and of two objects, where one process waits for the other.

    python benchmarks/ddp_overhead.py [--turns 5] [--frames 4] [--out FILE.md]
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from machine import argument_parser, in_short, machine, versions, write_record
from trainings import TINY, overrides, ratio, row, run, sample_data

STEPS, SKIP = 10, 3  # steps, which take seconds; the first ones fill caches
GOAL = 1.8
WORKER = Path(__file__).with_name("ddp_worker.py")


class Work(NamedTuple):
    """What is trained on."""

    data: Path
    objects: int  # a clip, at most
    frames: int


def trained(how: str, work: Work, processes: int, run_folder: Path) -> dict[str, Any]:
    """What `ddp_worker.py` found."""
    more = (
        f"trainer.devices={processes}",
        f"trainer.max_steps={STEPS}",
        "dataset.num_workers=1",
        f"dataset.video_clip_length={work.frames}",
        f"max_objects={work.objects}",
    )
    printed = run(str(WORKER), how, *overrides(work.data, run_folder, *TINY, *more))
    (found,) = re.findall(r"^found (.*)$", printed, re.MULTILINE)
    return dict(json.loads(found))


def compare(work: Work, folder: Path, turns: int) -> dict[str, list[float]]:
    """Clips a second of each turn."""

    def rate(processes: int, name: str = "together") -> float:
        return float(trained("together", work, processes, folder / name)["clips/s"])

    rates: dict[str, list[float]] = defaultdict(list)
    for _ in range(turns):
        rates["one"].append(rate(1))
        rates["two"].append(rate(2))
        with ThreadPoolExecutor(2) as pool:
            rates["at once"].append(sum(pool.map(lambda name: rate(1, name), "ab")))
    return rates


def parts(work: Work, folder: Path) -> list[str]:
    two, one = (trained("apart", work, processes, folder)["parts"] for processes in (2, 1))
    return table(two, one)


def table(two: Mapping[str, float], one: Mapping[str, float]) -> list[str]:
    lines = ["| part | two processes, ms | share | one process, ms | share |", "|---|---:|---:|---:|---:|"]
    for name in two:
        cells = [f"{1000 * each[name]:.0f} | {each[name] / each['step']:.1%}" for each in (two, one)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--frames", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ddp-overhead-") as name:
        folder = Path(name)
        equal = Work(sample_data(folder / "equal", videos=1), 1, options.frames)
        mixed = Work(sample_data(folder / "mixed"), 2, options.frames)
        rates = compare(equal, folder, options.turns)
        of_equal, of_mixed = (parts(work, folder) for work in (equal, mixed))
    one, two, at_once = rates["one"], rates["two"], rates["at once"]
    text = "\n".join(
        [
            f"# Two processes against one, {date.today():%B %Y}",
            "",
            f"Machine: {machine()}; {versions()}, one thread a process; {date.today().isoformat()}.",
            f"tiny at 256 px, {options.frames} frames a clip, memory and decoder trained; of {STEPS} steps "
            f"those after the first {SKIP}. Medians of {options.turns} turns; the ratio is the median of "
            "those of each turn.",
            "",
            "| what | clips/s | one process | ratio | goal |",
            "|---|---:|---:|---:|---|",
            row("two processes", two, one, unit="", goal=f"at least {GOAL}"),
            row("two trainings of one process at once", at_once, one, unit="", goal="-"),
            "",
            "Where it goes, in one more run a side, whose processes wait for each other before they exchange "
            "gradients; such a run may differ from the medians by a tenth:",
            "",
            *of_equal,
            "",
            "The same on clips of one and of two objects, as they are drawn:",
            "",
            *of_mixed,
            "",
            in_short(
                f"two processes train {ratio(two, one):.2f} x the clips of one process; two independent runs "
                f"{ratio(at_once, one):.2f} x"
            ),
        ]
    )
    write_record(text, options.out)


if __name__ == "__main__":
    main()
