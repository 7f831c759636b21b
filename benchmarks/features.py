"""A step of memory and decoder from cached features, against ours from images and SAM2Train: time and FLOPs.

All have the same weights, clips, prompts and optimizer and a frozen encoder, and take turns in one process.
Images and features are in memory. The time to read a clip of either from disk is printed beside.

    python benchmarks/features.py [--repeats 5] [--device cpu] [--out FILE.md]
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from datetime import date
from tempfile import TemporaryDirectory
from typing import Any

import torch
from machine import argument_parser, in_short, machine, versions, write_record
from reference import reference_batch, reference_loss, reference_model
from step import CLICKS, NETWORKS, Case, Step, count, make_batch, our_model, seconds, step_of

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.training.feature_cache import cache_of, fill
from sam2vt.core.training.loss import SAM2TrainingLoss

CASE = Case("tiny", 256, "memory and decoder")
GOAL = 1.1  # times the ratio of FLOPs
SIDES = ("SAM2Train", "ours", "ours from the cache")


def our_step(device: str, cached: bool) -> Step:
    model, batch = our_model(CASE, device), make_batch(CASE, device)
    loss = SAM2TrainingLoss(0.0, 1.0, 0.0, 0.0, 1.0, focal_weight=20.0)
    images = batch["images"]
    kept = [level.unflatten(0, images.shape[:2]) for level in model.keep(images.flatten(0, 1))]
    given = {"features": kept} if cached else {}

    def forward() -> torch.Tensor:
        seen = None if cached else images
        out = model(seen, batch["masks"], batch["prompts"], valid_masks=batch["valid_masks"], **given)
        judged = {name: out[name] for name in ("iou_predictions", "object_score_logits", "scored", "steps")}
        return loss(out["pred_masks"], batch["masks"], batch["valid_masks"], **judged)

    return step_of(model, forward, device, None)


def reference_step(device: str) -> Step:
    ours, batch = our_model(CASE, device), make_batch(CASE, device)
    model = reference_model(
        ours,
        NETWORKS[CASE.network],
        freeze_image_encoder=True,
        prob_to_use_pt_input_for_train=0.0,
        num_correction_pt_per_frame=CLICKS[CASE.prompt],
    ).to(device)
    loss, data = reference_loss(), reference_batch(batch, ours)
    return step_of(model, lambda: loss(model(data), data.masks)["core_loss"], device, None)


def compare(device: str, repeats: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    """GFLOP and times of each side."""
    made = (reference_step(device), our_step(device, False), our_step(device, True))
    steps = dict(zip(SIDES, made))
    losses = {side: float(step()) for side, step in steps.items()}
    print(f"losses: {losses}", flush=True)
    flops = {side: count(step)[0] for side, step in steps.items()}
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(repeats):
        for side in SIDES[:: 1 if turn % 2 else -1]:
            times[side].append(seconds(steps[side], device))
    return flops, times


def reading(repeats: int) -> str:
    """A clip's features from a file of the cache, and its images from JPEGs, both in the system's cache."""
    model, size = our_model(CASE, "cpu"), (CASE.size, CASE.size)
    with TemporaryDirectory() as folder:
        write_sample_data(f"{folder}/data", num_videos=1, num_frames=CASE.frames, size=(480, 854))
        (record,) = load_records("auto", f"{folder}/data")
        cache, frames = cache_of(model, f"{folder}/features"), list(record.frames)
        fill(cache, model, [record])
        of_features = median_seconds(lambda: cache.read(record, frames), repeats)
        of_images = median_seconds(lambda: read_frames(record, frames, size), repeats)
    return (
        f"A clip of {CASE.frames} frames is read in {1000 * of_features:.1f} ms as features "
        f"({cache.frame_bytes / 1e6:.2f} MB a frame) and in {1000 * of_images:.1f} ms as JPEGs of 854x480."
    )


def median_seconds(read: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        read()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def ratio(times: dict[str, list[float]], side: str) -> float:
    """Of the cached step's time to another side's, the median over the turns."""
    return statistics.median(a / b for a, b in zip(times[SIDES[-1]], times[side]))


def record(flops: dict[str, float], times: dict[str, list[float]], read: str, device: str) -> list[str]:
    theirs, ours, cached = SIDES
    of_time, of_flops = ratio(times, theirs), flops[cached] / flops[theirs]
    reached = "reached" if of_time <= GOAL * of_flops else "not reached"
    return [
        f"# Training from cached features, {date.today():%B %Y}",
        "",
        f"Machine: {machine()}; {versions()}, {torch.get_num_threads()} threads, {device}; "
        f"{date.today().isoformat()}.",
        f"{CASE}, float32; the image encoder is frozen. Medians of {len(times[ours])} steps a side, which "
        "take turns; ratios are the cached step's to the others'.",
        "",
        "| step | s | cached / it | GFLOP | cached / it |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {side} | {statistics.median(times[side]):.3f} | {ratio(times, side):.2f} | "
            f"{flops[side]:.1f} | {flops[cached] / flops[side]:.2f} |"
            for side in SIDES
        ),
        "",
        read,
        f"Goal: at most {GOAL} x the ratio of FLOPs to SAM2Train, {GOAL * of_flops:.3f}: {reached}.",
        "",
        in_short(
            f"a step from the cache takes {of_flops:.3f} x the FLOPs of SAM2Train's, and {of_time:.2f} x "
            "its time"
        ),
    ]


def main() -> None:
    parser = argument_parser(__doc__, repeats=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    flops, times = compare(options.device, options.repeats)
    lines = record(flops, times, reading(options.repeats), options.device)
    write_record("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
