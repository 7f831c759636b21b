"""SAM 2's image encoder without work on padding: the gain of each idea, in turns in one process.

python benchmarks/encoder.py [--sizes 256 512] [--repeats 7] [--out FILE.md]
"""

from __future__ import annotations

import copy
import logging
import statistics
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import torch
from machine import argument_parser, in_short, machine, versions, write_record
from step import Case, our_model

from sam2vt.core.model.build import replace_modules, replacements

IMAGES = 4
# SAM 2's own blocks; linear layers without padding; attention that sees padding once per window, too.
SIDES = {"SAM 2's": None, "linear layers": "none", "attention, too": "auto"}  # model.speedups
MODES = ("forward", "forward and backward")


def encoder(size: int, side: str) -> Any:
    torch.manual_seed(0)
    speedups = SIDES[side]
    model = our_model(Case("tiny", size), "cpu", speedups=speedups or "none")
    network = copy.deepcopy(model.network.image_encoder)
    if speedups is None:
        replace_modules(network, {ours: stock for stock, ours in replacements("none").items()})
    return network.eval()  # no drop path


def action(network: Any, images: torch.Tensor, mode: str) -> Callable[[], None]:
    def run() -> None:
        with torch.set_grad_enabled(mode != "forward"):
            levels = network(images)["backbone_fpn"]
            if mode != "forward":
                sum(level.square().mean() for level in levels).backward()
                network.zero_grad()

    return run


def compare(size: int, mode: str, repeats: int) -> dict[str, list[float]]:
    """Seconds of each side."""
    images = torch.randn(IMAGES, 3, size, size)
    actions = {side: action(encoder(size, side), images, mode) for side in SIDES}
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(-1, repeats):
        for side, run in actions.items():
            began = time.perf_counter()
            run()
            if turn >= 0:  # the first one fills caches
                times[side].append(time.perf_counter() - began)
    return times


def main() -> None:
    parser = argument_parser(__doc__, repeats=7)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    found = {(size, mode): compare(size, mode, options.repeats) for size in options.sizes for mode in MODES}
    rows, best = [], []
    for (size, mode), times in found.items():
        stock = times["SAM 2's"]
        ratios = [statistics.median(a / b for a, b in zip(times[side], stock)) for side in SIDES]
        best.append(ratios[-1])
        figures = " | ".join(f"{ratio:.2f}" for ratio in ratios[1:])
        rows.append(f"| tiny {size} px, {mode} | {statistics.median(stock):.3f} | {figures} |")
    text = "\n".join(
        [
            f"# The image encoder without work on padding, {date.today():%B %Y}",
            "",
            f"Machine: {machine()}; {versions()}, one thread; {date.today().isoformat()}.",
            f"{IMAGES} images; seconds of SAM 2's own blocks, and the time of ours as a share of it; medians "
            f"of {options.repeats}, in turn.",
            "",
            "| what | SAM 2's, s | linear layers leave padding out | attention sees it once a window, too |",
            "|---|---:|---:|---:|",
            *rows,
            "",
            in_short(f"the image encoder takes {min(best):.2f} to {max(best):.2f} x the time of SAM 2's"),
        ]
    )
    write_record(text, options.out)


if __name__ == "__main__":
    main()
