"""The gain of each idea that does not change the result of a training step: the step without it, against the
whole.

Each idea is left out alone; the steps take turns in one process. Activations are the bytes of all
storages that autograd keeps between forward and backward, without weights.

    python benchmarks/ideas.py [--repeats 5] [--out FILE.md]
"""

from __future__ import annotations

import gc
import logging
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from typing import Any
from unittest.mock import patch

import torch
from machine import argument_parser, in_short, machine, versions, write_record
from step import Case, Step, our_step, seconds

from sam2vt.core.model import encoder_blocks
from sam2vt.core.model.encoder_blocks import UnpaddedBlock
from sam2vt.core.model.speedups.dropout import FastDropoutAttention, FastDropoutLayer
from sam2vt.core.model.speedups.windows import SharedPaddingBlock
from sam2vt.core.model.tracking.memory_layers import MemoryLayer, RotaryAttention

CASES = (
    Case("tiny", 256),
    Case("tiny", 256, "memory and decoder"),
    Case("tiny", 256, prompt="clicks"),
)
WHOLE = "all of them"


def stored(wanted: bool, function: Callable[..., Any], *inputs: Any, draws: bool = True) -> Any:
    """Run a function instead of `recomputed`, without recomputing."""
    return function(*inputs)


# For each idea what replaces it: (owner, name, value).
WITHOUT: dict[str, tuple[tuple[Any, str, Any], ...]] = {
    WHOLE: (),
    "dropout from 64 bits, relu with it": (
        (FastDropoutLayer, "drop", MemoryLayer.drop),
        (FastDropoutLayer, "relu_drop", MemoryLayer.relu_drop),
        (FastDropoutAttention, "attend", RotaryAttention.attend),
    ),
    "padding of a window seen once": ((SharedPaddingBlock, "attend", UnpaddedBlock.attend),),
    "GELU recomputed": ((encoder_blocks, "recomputed", stored),),
}


@contextmanager
def without(idea: str) -> Iterator[None]:
    """Leave one idea out of the steps that run within it."""
    with ExitStack() as stack:
        for owner, name, value in WITHOUT[idea]:
            stack.enter_context(patch.object(owner, name, value))
        yield


def kept_megabytes(step: Step) -> float:
    """What autograd holds at the end of a forward, weights aside."""
    found: dict[int, torch.UntypedStorage] = {}
    parameters = [each for each in gc.get_objects() if isinstance(each, torch.nn.Parameter)]
    weights = {parameter.untyped_storage().data_ptr() for parameter in parameters}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(storage.nbytes() for storage in found.values()) / 1e6


def compare(case: Case, repeats: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each turn and megabytes kept, without each idea."""
    step = our_step(case, "cpu", None)
    times: dict[str, list[float]] = {name: [] for name in WITHOUT}
    megabytes = {}
    for name in WITHOUT:
        with without(name):
            megabytes[name] = kept_megabytes(step)
    for turn in range(repeats):
        for name in list(WITHOUT)[:: 1 if turn % 2 else -1]:
            with without(name):
                times[name].append(seconds(step, "cpu"))
    return times, megabytes


def section(case: Case, times: dict[str, list[float]], megabytes: dict[str, float]) -> list[str]:
    lines = [
        f"## {case}",
        "",
        "| without | s | against all | kept, MB | against all |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in WITHOUT:
        ratio = statistics.median(a / b for a, b in zip(times[name], times[WHOLE]))
        shown = "none" if name == WHOLE else name
        lines.append(
            f"| {shown} | {statistics.median(times[name]):.3f} | {ratio:.2f} | {megabytes[name]:.0f} | "
            f"{megabytes[name] / megabytes[WHOLE]:.2f} |"
        )
    return [*lines, ""]


def main() -> None:
    parser = argument_parser(__doc__, repeats=5)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    lines = [
        f"# The gain of each exact idea, {date.today():%B %Y}",
        "",
        f"Machine: {machine()}; {versions()}, {torch.get_num_threads()} threads; {date.today().isoformat()}.",
        f"Our step without one of the ideas; medians of {options.repeats} steps each, which take turns.",
        "",
    ]
    slower, more = 0.0, 0.0
    for case in CASES:
        times, megabytes = compare(case, options.repeats)
        lines += section(case, times, megabytes)
        for name in WITHOUT:
            slower = max(slower, statistics.median(a / b for a, b in zip(times[name], times[WHOLE])))
            more = max(more, megabytes[name] / megabytes[WHOLE])
    lines.append(
        in_short(
            f"without one of the ideas a step takes up to {slower:.2f} x the time and stores up to "
            f"{more:.2f} x the activations"
        )
    )
    write_record("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
