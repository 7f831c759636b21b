"""The gain of each idea that does not change the result of a training step: the step without it, against the
whole.

Each idea is left out alone; the steps take turns in one process. Activations are the bytes of all
storages that autograd keeps between forward and backward, without weights.

    python benchmarks/ideas.py [--repeats 5] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import gc
import logging
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from machine import in_short, machine, versions
from sam2.modeling.backbones.hieradet import do_pool
from sam2.modeling.position_encoding import PositionEmbeddingSine
from step import Case, Step, our_step, seconds

from sam2vt.core.model.replacements import SharedCodes

MODEL = "sam2vt.core.model"
CASES = (
    Case("tiny", 256),
    Case("tiny", 256, "memory and decoder"),
    Case("tiny", 256, prompt="clicks"),
)
WHOLE = "all of them"


@contextmanager
def replaced(*parts: tuple[str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, value in parts:
            stack.enter_context(patch(f"{MODEL}.{name}", value))
        yield


def plain_attention(query: Any, key: Any, value: Any, probability: float, mask: Any = None) -> torch.Tensor:
    return F.scaled_dot_product_attention(query, key, value, mask, probability)


def plain_relu_dropout(x: torch.Tensor, probability: float) -> torch.Tensor:
    return F.dropout(x.relu(), probability)


def kept(wanted: bool, function: Callable[..., Any], *inputs: Any, draws: bool = True) -> Any:
    return function(*inputs)


def repeated_codes(self: Any, x: torch.Tensor) -> torch.Tensor:
    return PositionEmbeddingSine.forward(self, x)


WITHOUT: dict[str, Callable[[], Any]] = {
    WHOLE: lambda: replaced(),
    "products by oneDNN": lambda: replaced(("products.mkl_is_slow", lambda: False)),
    "dropout from 64 bits, relu with it": lambda: replaced(
        ("memory_layers.dropout", F.dropout),
        ("memory_layers.relu_dropout", plain_relu_dropout),
        ("rotary_attention.attend", plain_attention),
    ),
    "filled places seen once, none pooled": lambda: replaced(("image_windows.SHARES_FILLED_PLACES", ())),
    "pool that keeps a byte": lambda: replaced(("image_windows._pool", pool_of_pytorch)),
    "GELU made again": lambda: replaced(("image_windows.again", kept)),
    "position codes shared": lambda: patch.object(SharedCodes, "forward", repeated_codes),
}


def pool_of_pytorch(maps: torch.Tensor, pool: Any) -> torch.Tensor:
    return maps if pool is None else do_pool(maps, pool)


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
    for name, without in WITHOUT.items():
        with without():
            megabytes[name] = kept_megabytes(step)
    for turn in range(repeats):
        for name in list(WITHOUT)[:: 1 if turn % 2 else -1]:
            with WITHOUT[name]():
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
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
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
