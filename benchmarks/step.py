"""A training step, ours against SAM2Train with its loss: time, peak of memory, FLOPs and operations.

Both have the same weights, clips, kinds of prompts, trained parts and optimizer, and take turns in one
process. Peak memory is measured in a process for each, above what it uses after a step of nano.
Operations are those that PyTorch dispatches.

    python benchmarks/step.py [--only tiny] [--repeats 5] [--device cpu] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import torch
from machine import argument_parser, begin_peak, in_short, machine, status_megabytes, versions, write_record
from reference import reference_batch, reference_loss, reference_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from sam2vt.config import ModelConfig, OptimizerConfig
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.training.loss import SAM2TrainingLoss
from sam2vt.core.training.optim import build_optimizer
from sam2vt.core.types import Batch
from sam2vt.settings import choices

RECOMPUTABLE = choices(ModelConfig, "recompute")

NETWORKS = {
    "nano": "network/sam2.1_nano.yaml",
    "tiny": "configs/sam2.1/sam2.1_hiera_t.yaml",
    "small": "configs/sam2.1/sam2.1_hiera_s.yaml",
    "base+": "configs/sam2.1/sam2.1_hiera_b+.yaml",
    "large": "configs/sam2.1/sam2.1_hiera_l.yaml",
}
TRAINED = {
    "all": ["*"],
    "memory and decoder": ["memory_attention", "memory_encoder", "mask_decoder"],
    "memory": ["memory_attention", "memory_encoder"],
}
CLICKS = {"mask": 0, "point": 1, "clicks": 7}  # corrections after the first one
GRADIENT_CLIP = 0.1
NANO_SIZE = 128  # px

Step = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Case:
    network: str
    size: int
    trained: str = "all"
    objects: int = 1
    frames: int = 4
    prompt: str = "mask"  # mask; point with one correction; clicks: a point with seven
    recompute: bool = False  # ours: every part that can be

    def __str__(self) -> str:
        what = f"{self.network} {self.size} px, {self.trained}, N={self.objects}, T={self.frames}"
        return f"{what}, {self.prompt}{', recomputed' if self.recompute else ''}"


ON_CPU = (
    Case("nano", 128),
    Case("nano", 128, objects=8),
    Case("nano", 128, prompt="point"),
    Case("nano", 128, prompt="clicks"),
    Case("tiny", 256),
    Case("tiny", 256, objects=3),
    Case("tiny", 256, "memory and decoder"),
    Case("tiny", 256, "memory and decoder", objects=3),
    Case("tiny", 256, "memory"),
    Case("tiny", 256, prompt="clicks"),
    Case("tiny", 256, recompute=True),
    Case("tiny", 256, "memory and decoder", recompute=True),
    Case("tiny", 256, objects=3, recompute=True),
)


def make_batch(case: Case, device: str) -> Batch:
    """Noise, and a square an object that moves over it; a prompt each on the first frame."""
    generator = torch.Generator().manual_seed(0)
    t, n, s = case.frames, case.objects, case.size
    images = torch.randint(0, 256, (1, t, 3, s, s), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(1, t, n, s, s, dtype=torch.bool)
    side = s // 4
    for place in range(n):
        for frame in range(t):
            top, left = (place * s // (n + 1)) % (s - side), (frame * s // 16 + place * 3) % (s - side)
            masks[0, frame, place, top : top + side, left : left + side] = True
    prompts = [make_prompt(case, masks[0, 0, place], place, device) for place in range(n)]
    valid = torch.ones(1, t, n, dtype=torch.bool)
    tensors = {"images": images, "masks": masks, "valid_masks": valid}
    return {**{name: each.to(device) for name, each in tensors.items()}, "prompts": [prompts]}  # type: ignore[typeddict-item]


def make_prompt(case: Case, mask: torch.Tensor, place: int, device: str) -> dict[str, Any]:
    where = {"object_index": place, "frame_index": 0}
    if case.prompt == "mask":
        return {"type": "mask", "mask": mask.float().to(device), **where}
    y, x = mask.nonzero()[len(mask.nonzero()) // 2].tolist()
    coords = torch.tensor([[x, y]], dtype=torch.float32, device=device)
    labels = torch.ones(1, dtype=torch.int32, device=device)
    return {"type": "point", "point_coords": coords, "point_labels": labels, **where}


def our_model(case: Case, device: str, **settings: Any) -> SAM2Model:
    torch.manual_seed(0)
    model = SAM2Model(
        config_path=NETWORKS[case.network],
        trainable_modules=TRAINED[case.trained],
        device=device,
        image_size=case.size,
        num_correction_clicks=CLICKS[case.prompt],
        recompute=list(RECOMPUTABLE) if case.recompute else [],
        **settings,
    )
    model.load().train().compile_parts()
    return model


def our_step(
    case: Case,
    device: str,
    precision: torch.dtype | None,
    of_model: Mapping[str, Any] = {},
    of_loss: Mapping[str, Any] = {},
) -> Step:
    """With further settings of the model and of the loss."""
    model, batch = our_model(case, device, **of_model), make_batch(case, device)
    loss = SAM2TrainingLoss(0.0, 1.0, 0.0, 0.0, 1.0, focal_weight=20.0, **of_loss)

    def forward() -> torch.Tensor:
        out = model(batch["images"], batch["masks"], batch["prompts"], valid_masks=batch["valid_masks"])
        given = {name: out[name] for name in ("iou_predictions", "object_score_logits", "scored", "steps")}
        return loss(out["pred_masks"], batch["masks"], batch["valid_masks"], **given)

    return step_of(model, forward, device, precision)


def reference_step(case: Case, device: str, precision: torch.dtype | None) -> Step:
    ours, batch = our_model(case, device), make_batch(case, device)
    points = case.prompt != "mask"
    model = reference_model(
        ours,
        NETWORKS[case.network],
        prob_to_use_pt_input_for_train=float(points),
        num_correction_pt_per_frame=CLICKS[case.prompt],
        prob_to_sample_from_gt_for_train=0.1,
    ).to(device)
    loss, data = reference_loss(), reference_batch(batch, ours)

    def forward() -> torch.Tensor:
        return loss(model(data), data.masks)["core_loss"]

    return step_of(model, forward, device, precision)


SIDES = {"ours": our_step, "SAM2Train": reference_step}


def step_of(model: Any, forward: Step, device: str, precision: torch.dtype | None) -> Step:
    optimizer = build_optimizer(getattr(model, "network", model), OptimizerConfig(lr=1e-5))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def step() -> torch.Tensor:
        with torch.autocast(device, precision, enabled=precision is not None):
            loss = forward()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


class _Operations(TorchDispatchMode):
    """Counts what is dispatched; views cost nothing and do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += not func.is_view
        return func(*args, **(kwargs or {}))


def count(step: Step) -> tuple[float, int]:
    """GFLOP and operations of a step."""
    with FlopCounterMode(display=False) as flops, _Operations() as operations:
        step()
    return flops.get_total_flops() / 1e9, operations.number


def seconds(step: Step, device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def peak_megabytes(case: Case, side: str, options: argparse.Namespace) -> float:
    """What two steps add to the memory of a process that has the model and has run a step before."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "sam2vt.core.training.trainer", "training.model.sam2"])
    with ProcessPoolExecutor(1, context) as process:
        return process.submit(added_megabytes, case, side, options.device, options.bf16).result()


def added_megabytes(case: Case, side: str, device: str, bf16: bool) -> float:
    precision = torch.bfloat16 if bf16 else None
    step = SIDES[side](case, device, precision)
    # Code that is read in at its first use is not the step's memory.
    SIDES[side](replace(case, network="nano", size=NANO_SIZE, objects=1), device, precision)()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    before = begin_peak()
    step()
    step()
    return status_megabytes("VmHWM") - before


def compare(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    precision = torch.bfloat16 if options.bf16 else None
    steps = {side: make(case, options.device, precision) for side, make in SIDES.items()}
    losses = {side: float(step()) for side, step in steps.items()}
    counted = {side: count(step) for side, step in steps.items()}
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(options.repeats):
        for side in list(SIDES)[:: 1 if turn % 2 else -1]:
            times[side].append(seconds(steps[side], options.device))
    del steps
    peaks = {side: peak_megabytes(case, side, options) for side in SIDES}
    found = {"losses": losses, "counted": counted, "times": times, "peaks": peaks}
    print(f"{case}: {json.dumps(found)}", flush=True)
    return found


def row(case: Case, found: dict[str, Any]) -> str:
    ours, theirs = (found["times"][side] for side in SIDES)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs))
    peak = [found["peaks"][side] for side in SIDES]
    (flops, operations), (their_flops, their_operations) = (found["counted"][side] for side in SIDES)
    return (
        f"| {case} | {statistics.median(ours):.3f} | {ratio:.2f} | {peak[0]:.0f} | {peak[0] / peak[1]:.2f} | "
        f"{flops:.1f} | {flops / their_flops:.2f} | {operations} | {operations / their_operations:.2f} |"
    )


def summary(found: dict[Case, dict[str, Any]]) -> str:
    """FLOPs and memory alone: unlike times they do not depend on the processor."""
    shares = [
        (case.recompute, ours / theirs, each["peaks"]["ours"] / each["peaks"]["SAM2Train"])
        for case, each in found.items()
        for (ours, _), (theirs, _) in [[each["counted"][side] for side in SIDES]]
    ]
    flops = [share for recompute, share, _ in shares if not recompute]
    peaks = [share for recompute, _, share in shares if not recompute]
    recomputed = [share for recompute, _, share in shares if recompute]
    parts = [f"{spans(flops)} x the FLOPs of SAM2Train's step"] if flops else []
    parts += [f"{spans(peaks)} x its peak memory"] if peaks else []
    parts += [f"{spans(recomputed)} x its peak memory with recompute"] if recomputed else []
    return ", ".join(parts)


def spans(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def main() -> None:
    parser = argument_parser(__doc__, repeats=5)
    parser.add_argument("--only", default="", help="cases whose text holds this")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--bf16", action="store_true", help="under autocast")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    cases = [case for case in ON_CPU if options.only in str(case)]
    found = {case: compare(case, options) for case in cases}
    rows = [row(case, each) for case, each in found.items()]
    lines = [
        f"# A training step against SAM2Train, {date.today():%B %Y}",
        "",
        f"Machine: {machine()}; {versions()}, {torch.get_num_threads()} threads, {options.device}; "
        f"{date.today().isoformat()}.",
        f"Medians of {options.repeats} steps a side, which take turns; ratios are ours / SAM2Train.",
        "",
        "| step | s | ratio | peak MB | ratio | GFLOP | ratio | operations | ratio |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        *rows,
        "",
        in_short(summary(found)),
    ]
    write_record("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
