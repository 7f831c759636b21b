"""See run.sh: correctness, then a training step of both sides, as many cases as fit into the time."""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

sys.path.append(os.environ.get("SAM2VT_WHEELS", ""))  # behind what is installed

import torch
from loss import check_equal
from machine import in_short, machine, versions
from reference import reference_batch, reference_model
from step import NETWORKS, SIDES, Case, Step, count, make_batch, our_model, seconds

# Dense bf16 operations a second that the maker states, by whole words of a card's name.
PEAKS = {
    "H200": 989e12,
    "H100 80GB HBM3": 989e12,
    "H100 PCIe": 756e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "4090": 165e12,
}
ON_GPU = (
    Case("base+", 1024, objects=3, frames=8),
    Case("tiny", 512, objects=3, frames=8),
    Case("tiny", 1024, objects=3, frames=8),
    Case("base+", 1024, "memory and decoder", objects=3, frames=8),
    Case("base+", 512, "memory and decoder", frames=8),
    Case("large", 512, "memory and decoder", frames=8),
    Case("large", 1024, objects=3, frames=8),
    Case("tiny", 512, objects=8, frames=8),
    Case("tiny", 512, objects=3, frames=8, prompt="clicks"),
    Case("base+", 1024, "memory", objects=3, frames=8),
    Case("small", 512, objects=3, frames=8),
)
ON_CPU = (Case("nano", 128, objects=2), Case("nano", 128, "memory and decoder"))
# By which the time of a case is foreseen.
MILLIONS_OF_PARAMETERS = {"nano": 2, "tiny": 39, "small": 46, "base+": 81, "large": 224}
TOLERANCE = 1e-3  # of float32 without TF32, over a clip of 4 frames
BLANK = 1024  # SAM 2's logit of an absent object, negative
# Parts of the names of kernels, cuDNN's first: they hold one of the others, too.
ATTENTION = ("cudnn_generated", "flash", "fmha", "efficient_attention")


def check_masks(device: str) -> float:
    """The largest difference of the masks of both sides in eval mode, relative to the largest logit.

    Of tracked frames: on the prompted one the mask is the prompt.
    """
    case = Case("nano", 128, objects=2)
    ours, batch = our_model(case, device).eval(), make_batch(case, device)
    ours.presence_from_gt = False
    with torch.no_grad():  # both sides take every object for present, so that no mask is blank
        ours.network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias += 10
    reference = reference_model(ours, NETWORKS[case.network]).to(device).eval()
    with torch.no_grad(), without_tf32():
        found = ours(batch["images"], None, batch["prompts"])["pred_masks_high_res"][0, 1:]
        frames = reference(reference_batch(batch, ours))[1:]
    expected = torch.stack([frame["pred_masks_high_res"][:, 0] for frame in frames])
    largest = float(expected.abs().max())
    assert 0 < largest < BLANK, f"masks up to {largest}: nothing is compared"
    assert (expected.flatten(2).std(2) > 0).all(), "a mask is the same everywhere: nothing is compared"
    worst = float((found - expected).abs().max()) / largest
    assert worst < TOLERANCE, f"masks differ by {worst:.2e} of the largest logit; allowed is {TOLERANCE}"
    return worst


@contextmanager
def without_tf32() -> Iterator[None]:
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, allowed in zip(backends, before):
            backend.allow_tf32 = allowed


def waits(step: Step) -> int:
    """How often a step makes the host wait for the GPU."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def attention_kernels(step: Step) -> str:
    """Which kernels of attention a step runs, by time."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as record:
        step()
        torch.cuda.synchronize()
    times: dict[str, float] = {}
    for event in record.key_averages():
        kind = next((kind for kind in ATTENTION if kind in event.key.lower()), None)
        if kind:
            times[kind] = times.get(kind, 0.0) + event.self_device_time_total
    return ", ".join(sorted(times, key=times.__getitem__, reverse=True)) or "none seen"


def measure(case: Case, device: str, repeats: int) -> dict[str, dict[str, Any]]:
    """Of each side; on a GPU under bf16 autocast, one side in memory at a time."""
    precision = torch.bfloat16 if device == "cuda" else None
    found: dict[str, dict[str, Any]] = {}
    for side, make in SIDES.items():
        try:
            found[side] = measure_side(make, case, device, precision, repeats)
        except torch.cuda.OutOfMemoryError:
            found[side] = {}
        if device == "cuda":
            torch.cuda.empty_cache()
    return found


def measure_side(
    make: Callable[..., Step], case: Case, device: str, precision: torch.dtype | None, repeats: int
) -> dict[str, Any]:
    step = make(case, device, precision)
    step()
    found: dict[str, Any] = {}
    found["flops"], found["operations"] = count(step)
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        found["peak"] = (torch.cuda.max_memory_allocated() - before) / 1e9
        found["waits"], found["attention"] = waits(step), attention_kernels(step)
    found["seconds"] = statistics.median(seconds(step, device) for _ in range(repeats))
    return found


def row(case: Case, found: dict[str, dict[str, Any]], peak_flops: float | None) -> str:
    ours, theirs = (found[side] for side in SIDES)

    def both(name: str, form: str) -> str:
        return " / ".join(format(side[name], form) if name in side else "-" for side in (ours, theirs))

    def mfu(side: dict[str, Any]) -> str:
        known = peak_flops and side
        return f"{1e9 * side['flops'] / side['seconds'] / peak_flops:.0%}" if known else "-"

    ratio = f"{ours['seconds'] / theirs['seconds']:.2f}" if ours and theirs else "out of memory"

    return (
        f"| {case} | {both('seconds', '.3f')} | {ratio} | "
        f"{mfu(ours)} / {mfu(theirs)} | {both('peak', '.1f')} | {both('operations', 'd')} | "
        f"{both('waits', 'd')} | {ours.get('attention', '-')} |"
    )


def cases_within(cases: tuple[Case, ...], end: float) -> Iterator[Case]:
    """As long as another one fits: it may take as long as the longest so far, and more if it is larger."""
    longest, of = 0.0, 1.0
    for case in cases:
        began = time.monotonic()
        if began + longest * max(1.0, work(case) / of) > end and longest:
            print(f"no time for {case}", file=sys.stderr)
            continue
        yield case
        if time.monotonic() - began > longest:
            longest, of = time.monotonic() - began, work(case)


def work(case: Case) -> float:
    """What a step takes, roughly, in a unit of its own; clicks and objects are left out."""
    passes = 3 if case.trained == "all" else 1  # the encoder's backward takes twice its forward
    return MILLIONS_OF_PARAMETERS[case.network] * case.size**2 * case.frames * passes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        sys.exit("no GPU is usable here; --device cpu runs the reduced form")
    name = torch.cuda.get_device_name() if on_gpu else "no GPU"
    peak_flops = next((flops for key, flops in PEAKS.items() if re.search(rf"\b{key}\b", name)), None)
    began = time.monotonic()
    check_equal(64, options.device)
    worst = check_masks(options.device)
    found, lines = {}, []
    for case in cases_within(ON_GPU if on_gpu else ON_CPU, began + 60 * options.minutes):
        found[case] = measure(case, options.device, options.repeats)
        lines.append(row(case, found[case], peak_flops))
        print(lines[-1], flush=True)
    ratios = [
        sides["ours"]["seconds"] / sides["SAM2Train"]["seconds"]
        for sides in found.values()
        if all(sides.values())
    ]
    in_all = "no step of both sides fitted"
    if ratios:
        in_all = f"a step takes {min(ratios):.2f} to {max(ratios):.2f} x the time of SAM2Train's"
    text = "\n".join(
        [
            f"# A training step on {name}, {date.today():%B %Y}",
            "",
            f"Machine: {name}, {machine()}; {versions()}; {date.today().isoformat()}.",
            f"Loss equal to SAM 2's to 1e-5; masks equal to SAM2Train's to {worst:.1e} of the largest logit.",
            f"{'bf16' if on_gpu else 'float32'}; medians of {options.repeats} steps; ours / SAM2Train. "
            "The peak is what a step adds to weights and AdamW's means.",
            "",
            "| step | s | ratio | MFU | peak GB | operations | waits for the GPU | attention |",
            "|---|---|---:|---|---|---|---|---|",
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
