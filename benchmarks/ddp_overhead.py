"""Two processes that train together over gloo against one: clips a second of `sam2vt train`.

Each process has one thread. Beside it two trainings of one process at once that know nothing of each other:
what the machine leaves of two. Then a step of each side by its parts.

    python benchmarks/ddp_overhead.py [--turns 3] [--frames 4 8] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

from machine import in_short, machine, versions
from trainings import TINY, overrides, ratio, row, run, sample_data, train

STEPS = 8  # which take seconds
GOAL = 1.8
WORKER = Path(__file__).with_name("ddp_worker.py")


def arguments(data: Path, folder: Path, processes: int, frames: int) -> list[str]:
    devices = (f"trainer.devices={processes}", f"trainer.max_steps={STEPS}", "dataset.num_workers=1")
    return overrides(data, folder, *TINY, *devices, f"dataset.video_clip_length={frames}")


def clips_per_second(*given: Any) -> float:
    """What `sam2vt train` itself says at its end."""
    (rate,) = re.findall(r"of training: ([\d.]+) clips/s", train(arguments(*given)))
    return float(rate)


def clips_per_second_apart(data: Path, folder: Path, frames: int) -> float:
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(lambda name: clips_per_second(data, folder / name, 1, frames), "ab"))


def compare(data: Path, folder: Path, frames: int, turns: int) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = defaultdict(list)
    for _ in range(turns):
        rates["one"].append(clips_per_second(data, folder, 1, frames))
        rates["two"].append(clips_per_second(data, folder, 2, frames))
        rates["apart"].append(clips_per_second_apart(data, folder, frames))
    return rates


def profiled(data: Path, folder: Path, processes: int, frames: int) -> dict[str, float]:
    """Seconds of each part of a step."""
    printed = run(str(WORKER), *arguments(data, folder, processes, frames))
    (found,) = re.findall(r"^parts (.*)$", printed, re.MULTILINE)
    return dict(json.loads(found))


def table(two: Mapping[str, float], one: Mapping[str, float]) -> list[str]:
    lines = ["| part | two processes, ms | share | one process, ms | share |", "|---|---:|---:|---:|---:|"]
    for name in two:
        cells = [f"{1000 * each[name]:.0f} | {each[name] / each['step']:.1%}" for each in (two, one)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def section(data: Path, folder: Path, frames: int, rates: Mapping[str, list[float]]) -> list[str]:
    two, one = (profiled(data, folder, processes, frames) for processes in (2, 1))
    return [
        f"## {frames} frames a clip",
        "",
        "| clips/s of | ours | one process | ratio | goal |",
        "|---|---:|---:|---:|---|",
        row("two processes", rates["two"], rates["one"], unit="", goal=f"at least {GOAL}"),
        row("two trainings at once", rates["apart"], rates["one"], unit="", goal="-"),
        "",
        *table(two, one),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--frames", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ddp-overhead-") as name:
        data, folder = sample_data(Path(name) / "data"), Path(name) / "run"
        rates = {frames: compare(data, folder, frames, options.turns) for frames in options.frames}
        sections = [line for frames, each in rates.items() for line in section(data, folder, frames, each)]
    in_words = [
        f"{ratio(each['two'], each['one']):.2f} x the clips of one with {frames} frames a clip, where two "
        f"trainings at once that share nothing reach {ratio(each['apart'], each['one']):.2f} x"
        for frames, each in rates.items()
    ]
    text = "\n".join(
        [
            f"# Two processes against one, {date.today():%B %Y}",
            "",
            f"Machine: {machine()}; {versions()}, one thread a process; {date.today().isoformat()}.",
            f"tiny at 256 px, memory and decoder trained, of {STEPS} steps each; medians of {options.turns} "
            "turns, the ratio is the median of those of each turn. The parts are means of a run of its own, "
            "in which the processes wait for each other before they exchange gradients.",
            "",
            *sections,
            in_short(f"two processes train {', '.join(in_words)}"),
        ]
    )
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
