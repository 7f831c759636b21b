"""The loss, ours against SAM 2's: seconds of forward and backward, bytes per pixel kept in between.

Both get the decoder's three masks of each object at a quarter of the size, with the terms and weights of
SAM 2's recipe: focal 20, dice 1, IoU head 1, presence 1. They take turns in one process.

It also times the settings that measure fewer pixels: `loss.resolution=low` and `loss.num_points=4096`.

    python benchmarks/loss.py [--sizes 256 512 1024] [--threads 1 2] [--repeats 9] [--out FILE.md]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from machine import argument_parser, in_short, machine, versions, write_record
from reference import reference_loss

from sam2vt.core.model.tracking.heads import DecoderStep
from sam2vt.core.training.loss import SAM2TrainingLoss

FRAMES, OBJECTS, MASKS = 4, 3, 3
NUM_POINTS = 4096
GOAL_SPEED, GOAL_BYTES = 4.0, 5.0

Loss = Callable[["Predictions"], torch.Tensor]


@dataclass
class Predictions:
    """Of every frame: logits [N,M,h,w], IoUs [N,M], object scores [N,1]; targets bool [T,N,H,W]."""

    masks: list[torch.Tensor]
    ious: list[torch.Tensor]
    scores: list[torch.Tensor]
    targets: torch.Tensor


def draw(size: int, device: str = "cpu") -> Predictions:
    generator = torch.Generator().manual_seed(0)

    def each(*shape: int) -> list[torch.Tensor]:
        drawn = (torch.randn(OBJECTS, *shape, generator=generator) for _ in range(FRAMES))
        return [values.to(device).requires_grad_() for values in drawn]

    targets = torch.rand(FRAMES, OBJECTS, size, size, generator=generator) > 0.7
    return Predictions(each(MASKS, size // 4, size // 4), each(MASKS), each(1), targets.to(device))


def ours(given: Predictions, **settings: Any) -> torch.Tensor:
    loss = SAM2TrainingLoss(0.0, 1.0, 0.0, 0.0, 1.0, focal_weight=20.0, **settings)
    device = given.targets.device
    clip, places = torch.zeros(OBJECTS, dtype=torch.long, device=device), torch.arange(OBJECTS, device=device)
    steps = [
        DecoderStep(torch.stack([clip, torch.full_like(clip, t), places], 1), masks, ious, scores)
        for t, (masks, ious, scores) in enumerate(zip(given.masks, given.ious, given.scores))
    ]
    final = torch.stack([masks[:, 0] for masks in given.masks])[None].detach()
    scored = torch.ones(1, FRAMES, OBJECTS, dtype=torch.bool, device=device)
    # Theirs adds the frames up, ours is the mean over them.
    return FRAMES * loss(final, given.targets[None], scored=scored, steps=steps)


def theirs(given: Predictions) -> torch.Tensor:
    size = tuple(given.targets.shape[-2:])
    outputs = [
        {
            "multistep_pred_multimasks_high_res": [F.interpolate(masks, size, mode="bilinear")],
            "multistep_pred_ious": [ious],
            "multistep_object_score_logits": [scores],
        }
        for masks, ious, scores in zip(given.masks, given.ious, given.scores)
    ]
    return reference_loss()(outputs, given.targets)["core_loss"]


SIDES: dict[str, Loss] = {"ours": ours, "SAM 2": theirs}
CHEAPER: dict[str, Loss] = {
    "low": partial(ours, resolution="low"),
    "points": partial(ours, num_points=NUM_POINTS),
}


def check_equal(size: int, device: str = "cpu") -> None:
    """Values and gradients, before any speed is claimed."""
    found = []
    for side in SIDES.values():
        given = draw(size, device)
        total = side(given)
        total.backward()
        found.append(
            [
                total.detach(),
                *(each.grad for part in (given.masks, given.ious, given.scores) for each in part),
            ]
        )
    for a, b in zip(*found):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5 * float(b.abs().max())), (a - b).abs().max()


def free_a_large_tensor() -> None:
    """As those of a training: glibc maps tensors up to this size anew at each use until one was freed."""
    torch.ones(31 << 18)  # 31 MB


def seconds(side: Loss, size: int) -> float:
    given = draw(size)
    began = time.perf_counter()
    side(given).backward()
    return time.perf_counter() - began


def kept_bytes(side: Loss, size: int) -> float:
    """A pixel of the targets: what autograd keeps from forward to backward, each storage once."""
    given, kept = draw(size), {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total = side(given)
    assert total.requires_grad
    return sum(kept.values()) / given.targets.numel()


def compare(size: int, threads: int, repeats: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    every = {**SIDES, **CHEAPER}
    times: dict[str, list[float]] = {name: [] for name in every}
    for turn in range(repeats + 1):
        for name in list(every)[:: 1 if turn % 2 else -1]:
            taken = seconds(every[name], size)
            if turn:  # the first one warms up
                times[name].append(taken)
    ratio = statistics.median(b / a for a, b in zip(times["ours"], times["SAM 2"]))
    return {"size": size, "threads": threads, "times": times, "faster": ratio}


def row(found: dict[str, Any]) -> str:
    milliseconds = [1000 * statistics.median(values) for values in found["times"].values()]
    return (
        f"| {found['size']} | {found['threads']} | {milliseconds[0]:.1f} | {milliseconds[1]:.1f} | "
        f"{found['faster']:.2f} | {milliseconds[2]:.1f} | {milliseconds[3]:.1f} |"
    )


def main() -> None:
    parser = argument_parser(__doc__, repeats=9)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    check_equal(options.sizes[0])
    free_a_large_tensor()
    kept = {name: kept_bytes(side, options.sizes[0]) for name, side in SIDES.items()}
    found = [compare(size, threads, options.repeats) for size in options.sizes for threads in options.threads]
    faster = [each["faster"] for each in found]
    reached = "reached" if min(faster) >= GOAL_SPEED else "not reached at every size"
    lines = [
        f"# The loss against SAM 2's, {date.today():%B %Y}",
        "",
        f"Machine: {machine()}; {versions()}; {date.today().isoformat()}.",
        f"{FRAMES} frames, {OBJECTS} objects, {MASKS} masks of each, float32; medians of "
        f"{options.repeats} turns.",
        "Values and gradients are equal to 1e-5.",
        "",
        f"| px | threads | ours, ms | SAM 2, ms | times as fast | low, ms | {NUM_POINTS} points, ms |",
        "|---:|---:|---:|---:|---:|---:|---:|",
        *(row(each) for each in found),
        "",
        f"Bytes a pixel kept for backward: {kept['ours']:.2f} against {kept['SAM 2']:.2f} "
        f"(goal at most {GOAL_BYTES:g}).",
        f"Goal: at least {GOAL_SPEED:g} times as fast: {reached}.",
        "",
        in_short(
            f"{kept['ours']:.1f} bytes per pixel kept for backward, SAM 2's loss {kept['SAM 2']:.0f}; "
            f"{min(faster):.1f} to {max(faster):.1f} times as fast"
        ),
    ]
    write_record("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
