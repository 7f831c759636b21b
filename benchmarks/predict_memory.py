"""Memory of masks on new videos, ours against SAM 2's video predictor and against its VOS inference loop.

memory  the peak over 1,000 frames, above what the imported process uses, weights included
long    our peak after 100, 2,000 and 20,000 frames of a small network

As `predict.py` has it: tiny at 256 px with one and three objects, each side in a process of its own. Nothing
is timed, so the machine need not be idle.

    python benchmarks/predict_memory.py [--only memory] [--frames 20000] [--out FILE.md]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from machine import argument_parser
from predict import NETWORKS, OBJECTS, SIZE, alone, make_video, reached, run_side, spans, write_parts
from predictors import PAIRS, SIDES, write_weights

MEMORY_GOAL, GROWTH_GOAL = 0.5, 100  # the latter in MB, to 2,000 frames
MARKS = (100, 2000)  # frames after which the long run looks at its memory, besides its last one


def memory(root: Path, options: argparse.Namespace) -> tuple[list[str], str]:
    weights = write_weights(root / "weights.pt", *NETWORKS["tiny 256 px"])
    rows, ratios = [], []
    for objects in OBJECTS:
        video = make_video(root / f"{objects}", SIZE, objects, options.memory_frames)
        peaks = {side: max(alone(run_side, side, weights, video).peaks.values()) for side in SIDES}
        print(f"memory, {objects} objects: {peaks}", flush=True)
        for pair in PAIRS:
            ours, theirs = (peaks[side] for side in pair)
            ratios.append(ours / theirs)
            rows.append(f"| {pair[1]}, N={objects} | {ours:.0f} | {theirs:.0f} | {ratios[-1]:.2f} |")
    told = f"{reached(max(ratios) <= MEMORY_GOAL)} ({max(ratios):.2f} at most)"
    lines = [
        f"## Peak memory: {options.memory_frames} frames of {SIZE[1]}x{SIZE[0]}, tiny at 256 px",
        "",
        "Above the imported process; the weights, which both sides have, are 156 MB of it.",
        f"Goal: {MEMORY_GOAL} x that of each: {told}.",
        "",
        "| against | ours, MB | theirs | ratio |",
        "|---|---:|---:|---:|",
        *rows,
    ]
    return lines, f"{spans(ratios)} x their peak memory"


def long_run(root: Path, options: argparse.Namespace) -> tuple[list[str], str]:
    weights = write_weights(root / "weights.pt", *NETWORKS["nano 128 px"])
    video = make_video(root / "video", (120, 160), 1, options.frames)
    run = alone(run_side, "ours", weights, video, MARKS)
    print(f"long: {run}", flush=True)
    first, last = next(iter(run.peaks.values())), run.peaks[max(run.peaks)]
    second = run.peaks.get(MARKS[1], last)
    told = reached(second - first <= GROWTH_GOAL)
    lines = [
        f"## A long video: {options.frames} frames of 160x120, nano at 128 px",
        "",
        f"Goal: at most {GROWTH_GOAL} MB from 100 to 2,000 frames: {told}.",
        "",
        "| frames | our peak memory, MB |",
        "|---|---:|",
        *(f"| {frames:,} | {peak:.0f} |" for frames, peak in run.peaks.items()),
    ]
    return lines, f"{last - first:+.0f} MB from 100 to {options.frames:,} frames"


PARTS = {"memory": memory, "long": long_run}


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--memory-frames", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--frames", type=int, default=20000, help="of the long run (default: %(default)s)")
    write_parts("Memory of masks on new videos against SAM 2's", PARTS, parser.parse_args())


if __name__ == "__main__":
    main()
