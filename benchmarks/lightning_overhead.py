"""A training step under Lightning, with our callbacks, against a bare loop over the same module.

The callbacks are those of a training that writes no checkpoints and shows no bar.

Both get the same batches, in blocks that take turns in one process; then both again under Lightning's own
profiler, which shows where the time goes.

    python benchmarks/lightning_overhead.py [--turns 11] [--out FILE.md]
"""

from __future__ import annotations

import itertools
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.profilers import PassThroughProfiler, Profiler, SimpleProfiler
from machine import argument_parser, in_short, machine, versions, write_record
from torch.utils.data import DataLoader
from trainings import NANO, overrides, ratio, row, sample_data

from sam2vt.composing import compose_config
from sam2vt.config import Config
from sam2vt.configuration.loading import load_config
from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.training.optim import build_optimizer
from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
from sam2vt.core.types import Batch
from sam2vt.train import create_trainer

STEPS, SKIP = 25, 5  # of a block; the first ones fill caches
PROFILED = 3  # blocks of each side
GOAL = 1.02

STEP = "step"
UPDATE, REST = "AdamW", "the rest: loops, hooks"
# What the bare loop has, too, by the names of Lightning's profiler.
ACTIONS = {
    "forward and loss": ("[Strategy]SingleDeviceStrategy.training_step",),
    "backward": ("[Strategy]SingleDeviceStrategy.backward",),
    "gradients' norm and clipping": (
        "[Callback]StopOnNonFinite.on_before_optimizer_step",
        "[LightningModule]SAM2LightningModule.configure_gradient_clipping",
    ),
    "freeing gradients": (
        "[LightningModule]SAM2LightningModule.on_train_batch_end",
        "[LightningModule]SAM2LightningModule.optimizer_zero_grad",
    ),
}
# The update, and what Lightning calls in it, through a closure.
AROUND_UPDATE = "[LightningModule]SAM2LightningModule.optimizer_step"
BEFORE_UPDATE = (
    "training_step",
    "on_before_zero_grad",
    "optimizer_zero_grad",
    "on_before_backward",
    "backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "configure_gradient_clipping",
)
FEEDING = ("[_TrainingEpochLoop].train_dataloader_next", "[Strategy]SingleDeviceStrategy.batch_to_device")
Shares = dict[str, float]  # seconds a step


class Bench(NamedTuple):
    module: SAM2LightningModule
    batches: list[Batch]
    config: Config


Block = Callable[[Bench, Profiler], list[float]]


def prepare(data: Path, run: Path) -> Bench:
    steps = (
        f"trainer.max_steps={STEPS}",
        "dataset.num_workers=0",
        "dataset.video_clip_length=4",
        "max_objects=2",
    )
    config = load_config(compose_config(overrides(data, run, *NANO, *steps)))
    L.seed_everything(0, verbose=False)
    module, datamodule = SAM2LightningModule(config), SAM2LightningDataModule(config)
    module.setup()
    datamodule.setup()
    clips = [datamodule.train_dataset[index] for index in range(2)]  # type: ignore[index]
    return Bench(module, [collate_fn([clips[step % len(clips)]]) for step in range(STEPS)], config)


def lightning_block(bench: Bench, profiler: Profiler) -> list[float]:
    """The time at each step's end."""
    stamps: list[float] = []

    class Stamp(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            stamps.append(time.perf_counter())

    trainer = create_trainer(bench.config, [Stamp()], profiler=profiler)
    datamodule = SAM2LightningDataModule(bench.config)
    datamodule.train_dataloader = lambda: DataLoader(bench.batches, batch_size=None)  # type: ignore
    trainer.fit(bench.module, datamodule=datamodule)
    return stamps


def bare_block(bench: Bench, profiler: Profiler) -> list[float]:
    module, timed = bench.module, profiler.profile
    optimizer = build_optimizer(module.model.network, bench.config.optimizer)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module.train()
    stamps = []
    for batch in bench.batches:
        with timed("forward and loss"):
            masks, valid = batch["masks"], batch["valid_masks"]
            out = module.model(batch["images"], masks, batch["prompts"], valid_masks=valid)
            given = {
                name: out[name] for name in ("iou_predictions", "object_score_logits", "scored", "steps")
            }
            loss, _ = module.criterion(out["pred_masks"], masks, valid, return_components=True, **given)
        with timed("backward"):
            loss.backward()
        with timed("gradients' norm and clipping"):
            torch.nn.utils.clip_grad_norm_(trained, bench.config.trainer.gradient_clip_val)
        with timed(UPDATE):
            optimizer.step()
        with timed("freeing gradients"):
            optimizer.zero_grad()
        stamps.append(time.perf_counter())
    return stamps


SIDES: dict[str, Block] = {"under Lightning": lightning_block, "bare loop": bare_block}


def seconds(stamps: Sequence[float]) -> float:
    """The median step of a block."""
    return statistics.median(b - a for a, b in itertools.pairwise(stamps[SKIP:]))


def take_turns(bench: Bench, turns: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(turns):
        for side in list(SIDES)[:: 1 if turn % 2 else -1]:
            times[side].append(seconds(SIDES[side](bench, PassThroughProfiler())))
    return times


def profiles(bench: Bench) -> dict[str, Shares]:
    """Of the two sides, the means of the profiled blocks' steps: means of parts add up."""
    found: dict[str, list[Shares]] = {side: [] for side in SIDES}
    for _ in range(PROFILED):
        for side, block in SIDES.items():
            profiler = SimpleProfiler()
            stamps = block(bench, profiler)
            taken = (stamps[-1] - stamps[SKIP - 1]) / (STEPS - SKIP)
            spent = {
                action: statistics.mean(each[SKIP:STEPS])
                for action, each in profiler.recorded_durations.items()
                if len(each) >= STEPS
            }
            found[side].append({STEP: taken, **(by_part(spent) if block is lightning_block else spent)})
    return {
        side: {name: statistics.mean(each[name] for each in blocks) for name in blocks[0]}
        for side, blocks in found.items()
    }


def by_part(spent: Mapping[str, float]) -> Shares:
    """The actions of Lightning's profiler, which lie in one another, as parts that do not."""
    parts = {name: sum(spent[action] for action in actions) for name, actions in ACTIONS.items()}
    before = sum(
        value
        for action, value in spent.items()
        if action.endswith(tuple(f".{name}" for name in BEFORE_UPDATE))
    )
    parts[UPDATE] = spent[AROUND_UPDATE] - before
    known = {action for actions in ACTIONS.values() for action in actions}
    hooks = (
        value for action, value in spent.items() if action.startswith("[Callback]") and action not in known
    )
    parts["other hooks of callbacks"] = sum(hooks)
    parts["fetching and moving the batch"] = sum(spent[action] for action in FEEDING)
    return parts


def table(found: Mapping[str, Shares]) -> list[str]:
    lightning, bare = found.values()
    lines = ["| part | under Lightning, ms | share | bare loop, ms | share |", "|---|---:|---:|---:|---:|"]
    names = [*(name for name in lightning if name != STEP), REST]
    for shares in (lightning, bare):
        shares[REST] = shares[STEP] - sum(value for name, value in shares.items() if name != STEP)
    for name in (STEP, *names):
        cells = (
            f"{1000 * shares[name]:.2f} | {shares[name] / shares[STEP]:.1%}" if name in shares else "- | -"
            for shares in (lightning, bare)
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--turns", type=int, default=11)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="lightning-overhead-") as name:
        bench = prepare(sample_data(Path(name) / "data"), Path(name) / "run")
        times, shares = take_turns(bench, options.turns), profiles(bench)
    ours, theirs = times.values()
    text = "\n".join(
        [
            f"# Lightning's overhead on a step, {date.today():%B %Y}",
            "",
            f"Machine: {machine()}; {versions()}, one thread; {date.today().isoformat()}.",
            f"Medians of {options.turns} turns of {STEPS - SKIP} steps; the ratio is the median of those of "
            "each turn.",
            "",
            "| what | under Lightning | bare loop | ratio | goal |",
            "|---|---:|---:|---:|---|",
            row("a step of nano at 128 px, all trained", ours, theirs, unit="s", goal=f"at most {GOAL}"),
            "",
            f"Where it goes, means of {PROFILED} further blocks under Lightning's profiler:",
            "",
            *table(shares),
            "",
            in_short(
                f"a step under Lightning takes {ratio(ours, theirs):.3f} x the time of one in a bare loop"
            ),
        ]
    )
    write_record(text, options.out)


if __name__ == "__main__":
    main()
