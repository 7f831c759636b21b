"""Time of a training step and of its loss by operator, ours beside SAM 2's.

The shares are those of each operator's own time under PyTorch's profiler; the steps are named as in
`step.py`, the loss is that of `loss.py`.

    python benchmarks/operators.py [--only tiny] [--steps 1] [--out FILE.md]
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from typing import NamedTuple

import loss
import step
import torch
from machine import argument_parser, in_short, machine, versions, write_record
from step import Case
from torch.profiler import ProfilerActivity, profile

CASES = (
    Case("tiny", 256),
    Case("tiny", 256, "memory and decoder"),
    Case("tiny", 256, prompt="clicks"),
)
LOSS_SIZES, LOSS_THREADS = (256, 512), (1, 2)
LOSS_RUNS = 10  # which take milliseconds
ROWS = 9  # of each side
# Matrix products and convolutions: what no implementation can leave out at the same arithmetic.
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mkldnn_convolution", "convolution_backward", "_slow_conv2d")
Run = Callable[[], object]


class Subject(NamedTuple):
    """What is profiled: makes what runs for each side, so many times."""

    name: str
    threads: int
    times: int
    sides: Mapping[str, Callable[[], Run]]


def subjects(times: int) -> list[Subject]:
    steps = [
        Subject(
            str(case),
            1,
            times,
            {side: partial(make, case, "cpu", None) for side, make in step.SIDES.items()},
        )
        for case in CASES
    ]
    losses = [
        Subject(
            f"the loss at {size} px, {threads} thread{'s' * (threads > 1)}",
            threads,
            LOSS_RUNS,
            {side: partial(loss_run, of, size) for side, of in loss.SIDES.items()},
        )
        for size in LOSS_SIZES
        for threads in LOSS_THREADS
    ]
    return [*steps, *losses]


def loss_run(side: loss.Loss, size: int) -> Run:
    """Forward and backward of as many predictions as there are, drawn before."""
    drawn = iter([loss.draw(size) for _ in range(LOSS_RUNS + 1)])
    return lambda: side(next(drawn)).backward()


def own_times(make: Callable[[], Run], times: int) -> dict[str, float]:
    """Milliseconds of each operator in one run, after a first one."""
    run = make()
    run()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(times):
            run()
    return {
        each.key.removeprefix("aten::"): each.self_cpu_time_total / 1000 / times
        for each in profiled.key_averages()
        if each.self_cpu_time_total
    }


def matrix_multiplications(times: dict[str, float]) -> float:
    """Return the share of the time that matrix products and convolutions take."""
    spent = sum(value for name, value in times.items() if name.startswith(PRODUCTS))
    return spent / sum(times.values())


def section(subject: Subject, found: Mapping[str, dict[str, float]]) -> list[str]:
    ours, theirs = found.values()
    total, their_total = sum(ours.values()), sum(theirs.values())
    most = dict.fromkeys(
        name for side in (ours, theirs) for name in sorted(side, key=lambda name: -side[name])[:ROWS]
    )
    columns = " | ".join(f"{side}, ms | share" for side in found)
    lines = [f"## {subject.name}", "", f"| operator | {columns} |", "|---|---:|---:|---:|---:|"]
    lines += [row("all", total, total, their_total, their_total)]
    lines += [row(f"`{name}`", ours.get(name, 0), total, theirs.get(name, 0), their_total) for name in most]
    return [*lines, ""]


def row(name: str, ours: float, total: float, theirs: float, their_total: float) -> str:
    return f"| {name} | {ours:.1f} | {ours / total:.0%} | {theirs:.1f} | {theirs / their_total:.0%} |"


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--only", default="", help="subjects whose name holds this")
    parser.add_argument("--steps", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    sections, shares = [], []
    for subject in (each for each in subjects(options.steps) if options.only in each.name):
        torch.set_num_threads(subject.threads)
        found = {side: own_times(make, subject.times) for side, make in subject.sides.items()}
        sections += section(subject, found)
        if subject.name in map(str, CASES):
            shares.append(matrix_multiplications(found["ours"]))
    text = "\n".join(
        [
            f"# Time of a step and of the loss, by operator, {date.today():%B %Y}",
            "",
            f"Machine: {machine()}; {versions()}, steps on one thread; {date.today().isoformat()}.",
            f"Own time of each operator under the profiler, the mean of {options.steps} steps and of "
            f"{LOSS_RUNS} times the loss, after a first one.",
            "",
            *sections,
            *([in_short(of_products(shares))] if shares else []),
        ]
    )
    write_record(text, options.out)


def of_products(shares: list[float]) -> str:
    return f"matrix products and convolutions take {min(shares):.0%} to {max(shares):.0%} of our step"


if __name__ == "__main__":
    main()
