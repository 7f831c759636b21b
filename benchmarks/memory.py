"""Memory at the peak of two training steps, by part of the network and operator, ours beside SAM2Train's.

It counts what PyTorch's profiler sees the steps allocate, without the weights of the model. The cases are
named as in `step.py`.

    python benchmarks/memory.py [--only recomputed] [--out FILE.md]
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any, NamedTuple

import torch
from machine import argument_parser, in_short, machine, versions, write_record
from step import SIDES, Case
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.profiler import ProfilerActivity, profile, record_function

CASES = (
    Case("tiny", 256),
    Case("tiny", 256, "memory and decoder"),
    Case("tiny", 256, "memory and decoder", recompute=True),
)
ROWS = 9  # of each side
# The network's parts, by their classes.
PARTS = {
    "ImageEncoder": "encoder",
    "MemoryAttention": "memory attention",
    "MemoryEncoder": "memory encoder",
    "MaskDecoder": "mask decoder",
    "PromptEncoder": "prompt encoder",
}
BACKWARD, UPDATE = "autograd::engine", "Optimizer.step"  # how the profiler names them


class Allocation(NamedTuple):
    time: int
    address: int
    bytes: int  # negative where it is freed
    maker: str


def at_the_peak(case: Case, side: str) -> Counter[str]:
    """Bytes by maker while most is allocated."""
    step = SIDES[side](case, "cpu", None)
    with labelled_parts(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
        step()
    live: dict[int, Allocation] = {}
    total, highest, peak = 0, 0, live
    for each in sorted(allocations(profiled)):
        if each.bytes > 0:
            live[each.address] = each
        elif live.pop(each.address, None) is None:
            continue  # made before
        total += each.bytes
        if total > highest:
            highest, peak = total, dict(live)
    found: Counter[str] = Counter()
    for each in peak.values():
        found[each.maker] += each.bytes
    return found


@contextmanager
def labelled_parts() -> Iterator[None]:
    """The profiler sees which part of the network runs."""
    labels: list[Any] = []

    def begin(module: torch.nn.Module, _: Any) -> None:
        if name := part_of(module):
            labels.append(record_function(name))
            labels[-1].__enter__()

    def end(module: torch.nn.Module, *_: Any) -> None:
        if part_of(module):
            labels.pop().__exit__(None, None, None)

    # What is recomputed in the backward pass stops amid a part.
    handles = [register_module_forward_pre_hook(begin), register_module_forward_hook(end, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def part_of(module: torch.nn.Module) -> str | None:
    return next((PARTS[each.__name__] for each in type(module).__mro__ if each.__name__ in PARTS), None)


def allocations(profiled: profile) -> Iterator[Allocation]:
    waiting: list[tuple[Any, tuple[str, ...]]]
    waiting = [(root, ()) for root in profiled.profiler.kineto_results.experimental_event_tree()]
    while waiting:
        event, above = waiting.pop()
        if event.name == "[memory]":
            fields = event.extra_fields
            yield Allocation(event.start_time_ns, fields.ptr, fields.alloc_size, maker(above))
        names = (*above, event.name)
        waiting += [(child, names) for child in event.children]


def maker(names: tuple[str, ...]) -> str:
    """Of the names of the events around an allocation, outermost first."""
    if any(name.startswith(UPDATE) for name in names):
        return "update: AdamW"
    part = next((name for name in names if name in PARTS.values()), "around the parts")
    if any(name.startswith(BACKWARD) for name in names):
        part = f"{part}, recomputed" if part in PARTS.values() else "backward"
    operator = next((name for name in names if name.startswith("aten::")), "other")
    return f"{part}: `{operator.removeprefix('aten::')}`"


def section(case: Case, found: dict[str, Counter[str]]) -> list[str]:
    ours, theirs = (found[side] for side in SIDES)
    total, their_total = ours.total(), theirs.total()
    most = dict.fromkeys(name for side in (ours, theirs) for name, _ in side.most_common(ROWS))
    lines = [f"## {case}", "", "| made by | ours, MB | share | SAM2Train, MB | share |"]
    lines += ["|---|---:|---:|---:|---:|", row("all", total, total, their_total, their_total)]
    lines += [row(name, ours[name], total, theirs[name], their_total) for name in most]
    return [*lines, ""]


def row(name: str, ours: int, total: int, theirs: int, their_total: int) -> str:
    cells = [
        f"{part / 1e6:.1f} | {part / whole:.0%}" for part, whole in ((ours, total), (theirs, their_total))
    ]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--only", default="", help="cases whose text holds this")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    cases = [case for case in CASES if options.only in str(case)]
    found = {case: {side: at_the_peak(case, side) for side in SIDES} for case in cases}
    ratios = [each["ours"].total() / each["SAM2Train"].total() for each in found.values()]
    text = "\n".join(
        [
            f"# Memory of a step at its peak, by operator, {date.today():%B %Y}",
            "",
            f"Machine: {machine()}; {versions()}; {date.today().isoformat()}.",
            "At the highest point of two steps after the model was made; its weights do not count. "
            "`recomputed`: in the backward pass.",
            "",
            *(line for case, each in found.items() for line in section(case, each)),
            in_short(
                f"the tensors of a step peak at {min(ratios):.2f} to {max(ratios):.2f} x those of SAM2Train's"
            ),
        ]
    )
    write_record(text, options.out)


if __name__ == "__main__":
    main()
