"""Linear layers of a training step by MKL and by oneDNN, forward and with backward.

python benchmarks/products.py [--repeats 9] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from machine import in_short, machine, versions
from torch import nn

from sam2vt.core.model import products

# Rows, inputs and outputs: the encoder's of tiny at 256 px and 4 frames, and the memory attention's.
SHAPES = (
    (16384, 96, 384),
    (4096, 768, 192),
    (1024, 384, 1536),
    (256, 768, 3072),
    (256, 256, 2048),
    (256, 256, 256),
)
THREADS = (1, 2)
SIDES = {"MKL": nn.Linear, "oneDNN": products.Linear}
DIRECTIONS = ("forward", "both ways")


def action(layer: nn.Module, x: torch.Tensor, direction: str) -> Callable[[], object]:
    def forward() -> None:
        with torch.no_grad():
            layer(x)

    gradient = torch.randn(len(x), layer(x).shape[1])
    return forward if direction == "forward" else lambda: layer(x).backward(gradient)


def rates(shape: tuple[int, int, int], direction: str, repeats: int) -> dict[str, float]:
    """Each side's billions of floating-point operations a second."""
    rows, inputs, outputs = shape
    x = torch.randn(rows, inputs, requires_grad=True)
    assert products.by_onednn(x, torch.empty(outputs, inputs)) == products.mkl_is_slow()
    actions = {side: action(make(inputs, outputs), x, direction) for side, make in SIDES.items()}
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(-2, repeats):
        for side, run in actions.items():
            began = time.perf_counter()
            run()
            if turn >= 0:
                times[side].append(time.perf_counter() - began)
    work = 2e-9 * rows * inputs * outputs * (1 if direction == "forward" else 3)
    return {side: work / statistics.median(each) for side, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found, lines = [], []
    for threads in THREADS:
        torch.set_num_threads(threads)
        for shape in SHAPES:
            both = [rates(shape, direction, options.repeats) for direction in DIRECTIONS]
            found += [each["oneDNN"] / each["MKL"] for each in both]
            cells = " | ".join(
                f"{r['MKL']:.0f} | {r['oneDNN']:.0f} | {r['oneDNN'] / r['MKL']:.2f}" for r in both
            )
            lines.append(f"| {' x '.join(map(str, shape))} | {threads} | {cells} |")
    in_all = f"oneDNN's linear layers are {min(found):.1f} to {max(found):.1f} times as fast"
    if not products.mkl_is_slow():
        in_all = "this processor is not one for which oneDNN is taken: both sides are MKL's"
    text = "\n".join(
        [
            f"# Linear layers by MKL and by oneDNN, {date.today():%B %Y}",
            "",
            f"Machine: {machine()}; {versions()}; {date.today().isoformat()}.",
            f"GFLOP/s, float32, medians of {options.repeats} calls a side, which take turns.",
            "",
            "| rows x inputs x outputs | threads | forward: MKL | oneDNN | ratio "
            "| both ways: MKL | oneDNN | ratio |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
            *lines,
            "",
            in_short(in_all),
        ]
    )
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
