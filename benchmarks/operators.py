"""Where a training step's time goes, by operator, ours beside SAM2Train's.

The shares are those of each operator's own time on one thread, under PyTorch's profiler; the cases are named
as in `step.py`.

    python benchmarks/operators.py [--only tiny] [--steps 1] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import logging
from datetime import date
from pathlib import Path
from typing import Any

import torch
from machine import in_short, machine, versions
from step import SIDES, Case
from torch.profiler import ProfilerActivity, profile

CASES = (
    Case("tiny", 256),
    Case("tiny", 256, "memory and decoder"),
    Case("tiny", 256, prompt="clicks"),
)
ROWS = 12
# Matrix products and convolutions: what no implementation can leave out at the same arithmetic.
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mkldnn_convolution", "convolution_backward", "_slow_conv2d")


def own_times(case: Case, side: str, steps: int) -> dict[str, float]:
    """Milliseconds a step of each operator."""
    step = SIDES[side](case, "cpu", None)
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(steps):
            step()
    return {
        each.key.removeprefix("aten::"): each.self_cpu_time_total / 1000 / steps
        for each in profiled.key_averages()
        if each.self_cpu_time_total
    }


def products(times: dict[str, float]) -> float:
    """The share of matrix products and convolutions."""
    spent = sum(value for name, value in times.items() if name.startswith(PRODUCTS))
    return spent / sum(times.values())


def section(case: Case, found: dict[str, dict[str, float]]) -> list[str]:
    ours, theirs = (found[side] for side in SIDES)
    total, their_total = sum(ours.values()), sum(theirs.values())
    most = sorted({**theirs, **ours}, key=lambda name: -max(ours.get(name, 0), theirs.get(name, 0)))[:ROWS]
    lines = [f"## {case}", "", "| operator | ours, ms | share | SAM2Train, ms | share |"]
    lines += ["|---|---:|---:|---:|---:|", row("all", total, total, their_total, their_total)]
    lines += [row(f"`{name}`", ours.get(name, 0), total, theirs.get(name, 0), their_total) for name in most]
    return [*lines, ""]


def row(name: str, ours: float, total: float, theirs: float, their_total: float) -> str:
    return f"| {name} | {ours:.0f} | {ours / total:.0%} | {theirs:.0f} | {theirs / their_total:.0%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose text holds this")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    found: dict[Case, dict[str, Any]] = {}
    for case in (case for case in CASES if options.only in str(case)):
        found[case] = {side: own_times(case, side, options.steps) for side in SIDES}
    shares = [products(each["ours"]) for each in found.values()]
    text = "\n".join(
        [
            f"# Where a training step's time goes, {date.today():%B %Y}",
            "",
            f"Machine: {machine()}; {versions()}, one thread; {date.today().isoformat()}.",
            f"Own time of each operator a step, the mean of {options.steps} after a first one, under the "
            "profiler.",
            "",
            *(line for case, each in found.items() for line in section(case, each)),
            in_short(
                f"matrix products and convolutions take {min(shares):.0%} to {max(shares):.0%} of our step"
            ),
        ]
    )
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
