"""Masks on new videos, ours against SAM 2's video predictor and against its VOS inference loop.

speed      frames per second of a video of 200 frames, JPEG on disk to masks at its size; sides take turns
agreement  IoU of our masks with the predictor's on real clips ($SAM2VT_TEST_DATA), each with its own reader

Speed is that of tiny at 256 px with one and three objects, prompted by masks; each side runs in a process of
its own. The VOS loop is SAM 2's `vos_inference.py` written anew. All weights are random.

    python benchmarks/predict.py [--only speed] [--repeats 3] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from machine import argument_parser, begin_peak, in_short, machine, status_megabytes, versions, write_record
from predictors import (
    PAIRS,
    SIDES,
    Given,
    gflop_per_frame,
    link_frames,
    our_side,
    real_clip,
    stock_side,
    write_video,
    write_weights,
)

SPEED_GOAL, IOU_GOAL = 1.2, 0.995
OBJECTS = (1, 3)
SIZE = (480, 854)
TINY, NANO = "configs/sam2.1/sam2.1_hiera_t.yaml", "network/sam2.1_nano.yaml"
NETWORKS = {"tiny 256 px": (TINY, 256), "nano 128 px": (NANO, 128)}
CLIPS = ("pumavos_chair", "davis17_bmx-trees", "davis17_schoolgirls_mp4")
WARM_UP = 12  # frames: the memory is full after seven


Part = Callable[
    [Path, argparse.Namespace], tuple[list[str], str]
]  # a section of a record, and its short form


class Run(NamedTuple):
    """What one side took for a video."""

    rate: float  # frames per second
    seconds: float  # of processors, per frame
    peaks: dict[int, float]  # MB above the imported process, by frames


class Video(NamedTuple):
    """A folder of frames, a short one to warm up with, and the masks of the first frame."""

    folder: Path
    short: Path
    given: Given


def run_side(side: str, weights: Path, video: Video, marks: tuple[int, ...] = ()) -> Run:
    """Track a video in this process, which has only imported what it needs."""
    before = begin_peak()
    track = SIDES[side](weights)
    for _ in track(video.short, video.given):  # code that is loaded at its first use takes its time
        pass
    began, used, peaks, count = time.perf_counter(), time.process_time(), {}, 0
    for _ in track(video.folder, video.given):
        count += 1
        if count in marks:
            peaks[count] = status_megabytes("VmHWM") - before
    peaks[count] = status_megabytes("VmHWM") - before
    return Run(count / (time.perf_counter() - began), (time.process_time() - used) / count, peaks)


def alone(function: Callable[..., Any], *given: Any) -> Any:
    """Return what a function returns in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *given).result()


def make_video(root: Path, size: tuple[int, int], num_objects: int, num_frames: int) -> Video:
    root.mkdir()
    frames, given = write_video(root / "drawn", size, num_objects)
    folders = (link_frames(frames, root / name, n) for name, n in (("long", num_frames), ("short", WARM_UP)))
    return Video(*folders, given)


def speed(root: Path, options: argparse.Namespace) -> tuple[list[str], str]:
    weights = write_weights(root / "weights.pt", *NETWORKS["tiny 256 px"])
    rows, ratios, shares = [], [], []
    for objects in OBJECTS:
        video = make_video(root / f"{objects}", SIZE, objects, options.speed_frames)
        counted = {side: alone(gflop_per_frame, side, weights, video.short, video.given) for side in SIDES}
        runs: dict[str, list[Run]] = {side: [] for side in SIDES}
        for turn in range(options.repeats):
            for side in list(SIDES)[:: -1 if turn % 2 else 1]:
                runs[side].append(alone(run_side, side, weights, video))
                print(f"speed, {objects} objects, {side}: {runs[side][-1]}", flush=True)
        for pair in PAIRS:
            ours, theirs = (runs[side] for side in pair)
            ratios.append(statistics.median(a.rate / b.rate for a, b in zip(ours, theirs)))
            spent = statistics.median(a.seconds / b.seconds for a, b in zip(ours, theirs))
            shares.append(counted[pair[0]] / counted[pair[1]])
            rates = (statistics.median(each.rate for each in side) for side in (ours, theirs))
            cells = [*(f"{each:.2f}" for each in (*rates, ratios[-1], spent)), f"{counted[pair[0]]:.1f}"]
            rows.append(f"| {pair[1]}, N={objects} | {' | '.join(cells)} | {shares[-1]:.2f} |")
    told = f"{reached(min(ratios) >= SPEED_GOAL)} ({min(ratios):.2f} at least)"
    lines = [
        f"## Speed: {options.speed_frames} frames of {SIZE[1]}x{SIZE[0]}, tiny at 256 px",
        "",
        f"Medians of {options.repeats} turns. Goal: {SPEED_GOAL} x the frames per second of each: {told}.",
        f"GFLOP are those of the first {WARM_UP} frames, per frame.",
        "",
        "| against | ours, frames/s | theirs | ratio | seconds of processors, ratio | our GFLOP | ratio |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *rows,
    ]
    flops = f"{spans(shares)} x the FLOPs of SAM 2's predictor and VOS loop"
    return lines, f"{flops}, {spans(ratios)} x their frames per second"


def real_clips() -> list[Path]:
    clips = [Path(os.environ.get("SAM2VT_TEST_DATA", ""), name) for name in CLIPS]
    if missing := [str(clip) for clip in clips if not clip.is_dir()]:
        sys.exit(f"agreement needs the clips in SAM2VT_TEST_DATA; missing: {', '.join(missing)}")
    return clips


def agreement(root: Path, options: argparse.Namespace) -> tuple[list[str], str]:
    clips, rows, lowest = real_clips(), [], 1.0
    for name, network in NETWORKS.items():
        weights = write_weights(root / f"{name}.pt", *network)
        for clip in clips:
            num_objects, stock, area, shares = alone(compare, clip, weights, root / f"{name}_{clip.name}")
            if not 0.01 < min(shares) <= max(shares) < 0.99:
                sys.exit(
                    f"{clip.name}, {name}: masks cover {min(shares)} to {max(shares)}: they tell nothing"
                )
            lowest = min(lowest, *stock)
            cells = " | ".join(f"{np.mean(found):.4f} ({min(found):.4f})" for found in (stock, area))
            rows.append(f"| {clip.name}, {name}, N={num_objects} | {cells} | {np.mean(shares):.0%} |")
            print(rows[-1], flush=True)
    lines = [
        "## Agreement with SAM 2's predictor",
        "",
        "IoU per frame and object, mean (lowest), with random weights. "
        f"Goal: {IOU_GOAL} at least with `resize` stock: {reached(lowest >= IOU_GOAL)}.",
        "",
        "| clip | `resize` stock | `resize` area | masks cover |",
        "|---|---:|---:|---:|",
        *rows,
    ]
    return lines, f"IoU {lowest:.4f} or more with the predictor's masks"


def compare(clip: Path, weights: Path, folder: Path) -> tuple[int, list[float], list[float], list[float]]:
    """Return a clip's objects, the IoU with stock's masks by our two ways to resize, and what masks cover."""
    _, given = real_clip(clip, folder)
    sides = [our_side(weights), our_side(weights, "area"), stock_side(weights)]
    frames = list(zip(*(side(folder, given) for side in sides)))[
        1:
    ]  # the first frame's masks are the prompts
    ious = [[iou(*pair) for frame in frames for pair in zip(frame[k], frame[2])] for k in (0, 1)]
    return len(given), *ious, [mask.mean() for frame in frames for mask in frame[2]]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def spans(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def reached(yes: bool) -> str:
    return "reached" if yes else "not reached"


PARTS = {"speed": speed, "agreement": agreement}


def main() -> None:
    parser = argument_parser(__doc__, repeats=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--speed-frames", type=int, default=200, help="(default: %(default)s)")
    options = parser.parse_args()
    if "agreement" in options.only:
        real_clips()  # before the long part
    write_parts("Masks on new videos against SAM 2's predictor", PARTS, options)


def write_parts(title: str, parts: Mapping[str, Part], options: argparse.Namespace) -> None:
    """Run the parts that `options.only` names, and write their record."""
    os.environ["TQDM_DISABLE"] = "1"  # of SAM 2's progress bars, in the processes of the sides
    os.environ["PYTHONWARNINGS"] = "ignore"
    found = []
    for part in options.only:
        with tempfile.TemporaryDirectory(prefix="predict-") as folder:
            found.append(parts[part](Path(folder), options))
    lines = [
        f"# {title}, {date.today():%B %Y}",
        "",
        f"Machine: {machine()}; {versions()}, {torch.get_num_threads()} threads; {date.today().isoformat()}.",
        "",
        *(line for section, _ in found for line in (*section, "")),
        in_short("; ".join(short for _, short in found)),
    ]
    write_record("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
