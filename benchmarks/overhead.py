"""What lies around a training step: Lightning, a second process, and the start.

- A step under Lightning with every callback of ours against a bare loop over the same module and batches, in
  blocks that take turns in one process.
- Two processes of one thread over gloo against one of one thread: clips a second of `sam2vt train`. Beside it
  two trainings of one process at once that know nothing of each other: what the machine leaves of two.
- `sam2vt train` from its start to the end of one step against importing torch, Lightning and SAM 2.

    python benchmarks/overhead.py [--repeats 5] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

from machine import in_short, machine, versions

STEPS, SKIP = 25, 5  # of a block; the first ones fill caches
BLOCKS = 11  # of each side, which take seconds
PROCESS_STEPS, PROCESS_REPEATS = 8, 3  # a step takes seconds, a repeat a minute
ALWAYS = (
    "trainer=cpu",
    "trainer.max_epochs=1",
    "trainer.limit_val_batches=0",
    "trainer.enable_checkpointing=false",
    "trainer.enable_progress_bar=false",
    "trainer.logger=false",
    "trainer.num_overlay_videos=0",
    "scheduler=constant",
    "max_objects=2",
    "dataset.video_clip_length=4",
    "dataset.prompt_types=[mask]",
    "dataset.clips_per_video=1000",
)
NANO = ("model=nano",)
TINY = ("model=tiny", "model.checkpoint_path=null", "model.image_size=256")
IMPORTS = "import torch, lightning, sam2.modeling.sam2_base"


def overrides(data: Path, run: Path, *more: str) -> list[str]:
    return [*ALWAYS, f"dataset.data_path={data}", f"output_dir={run}", *more]


def block_times(data: Path, run: Path, model: Sequence[str], repeats: int) -> tuple[list[float], list[float]]:
    """Median seconds a step of each block: under Lightning, and in a bare loop."""
    import lightning as L
    import torch

    from sam2vt.config import load_config
    from sam2vt.core.data.collate import collate_fn
    from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
    from sam2vt.train import compose_config

    torch.set_num_threads(1)
    steps = f"trainer.max_steps={STEPS}"
    config = load_config(compose_config(overrides(data, run, *model, steps, "dataset.num_workers=0")))
    L.seed_everything(0, verbose=False)
    module, datamodule = SAM2LightningModule(config), SAM2LightningDataModule(config)
    module.setup()
    datamodule.setup()
    clips = [datamodule.train_dataset[index] for index in range(2)]  # type: ignore[index]
    batches = [collate_fn([clips[step % len(clips)]]) for step in range(STEPS)]
    sides: list[tuple[Callable[..., list[float]], list[float]]] = [(lightning_block, []), (bare_block, [])]
    for turn in range(repeats):
        for block, times in sides[:: 1 if turn % 2 else -1]:
            stamps = block(module, batches, config)[SKIP:]
            times.append(statistics.median(b - a for a, b in itertools.pairwise(stamps)))
    return sides[0][1], sides[1][1]


def lightning_block(module: Any, batches: list[Any], config: Any) -> list[float]:
    """The time at each step's end."""
    import lightning as L
    from torch.utils.data import DataLoader

    from sam2vt.core.training.callbacks import default_callbacks
    from sam2vt.core.training.trainer import SAM2LightningDataModule
    from sam2vt.train import create_trainer

    stamps: list[float] = []

    class Stamp(L.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            stamps.append(time.perf_counter())

    trainer = create_trainer(config, [*default_callbacks(config), Stamp()])
    datamodule = SAM2LightningDataModule(config)
    datamodule.train_dataloader = lambda: DataLoader(batches, batch_size=None)  # type: ignore
    trainer.fit(module, datamodule=datamodule)
    return stamps


def bare_block(module: Any, batches: list[Any], config: Any) -> list[float]:
    import torch

    from sam2vt.core.training.optim import build_optimizer

    optimizer = build_optimizer(module.model.network, config.optimizer)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module.train()
    stamps = []
    for batch in batches:
        masks, valid = batch["masks"], batch["valid_masks"]
        out = module.model(batch["images"], masks, batch["prompts"], valid_masks=valid)
        given = {name: out[name] for name in ("iou_predictions", "object_score_logits", "scored", "steps")}
        module.criterion(out["pred_masks"], masks, valid, **given).backward()
        torch.nn.utils.clip_grad_norm_(trained, config.trainer.gradient_clip_val)
        optimizer.step()
        optimizer.zero_grad()
        stamps.append(time.perf_counter())
    return stamps


def clips_per_second(data: Path, run: Path, processes: int) -> float:
    """What `sam2vt train` itself says at its end, with one thread a process."""
    more = (f"trainer.devices={processes}", f"trainer.max_steps={PROCESS_STEPS}", "dataset.num_workers=1")
    done = run_train(overrides(data, run, *TINY, *more))
    (rate,) = re.findall(r"of training: ([\d.]+) clips/s", done)
    return float(rate)


def clips_per_second_apart(data: Path, run: Path) -> float:
    with ThreadPoolExecutor(2) as pool:
        rates = pool.map(lambda name: clips_per_second(data, run / name, 1), "ab")
        return sum(rates)


def run_train(arguments: list[str]) -> str:
    command = [sys.executable, "-m", "sam2vt.cli", "train", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout + done.stderr


def seconds(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="overhead-") as name:
        text = report(Path(name), options.repeats)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def report(folder: Path, repeats: int) -> str:
    data, run = folder / "data", folder / "run"
    command = [
        sys.executable,
        "-m",
        "sam2vt.cli",
        "sample-data",
        str(data),
        "--videos",
        "2",
        "--frames",
        "24",
    ]
    subprocess.run(command, check=True, capture_output=True)
    one_step = overrides(data, run, *NANO, "trainer.max_steps=1", "dataset.num_workers=0")
    starts, imports, ones, twos, apart = [], [], [], [], []
    for repeat in range(repeats):
        imports.append(seconds(lambda: subprocess.run([sys.executable, "-c", IMPORTS], check=True)))
        starts.append(seconds(lambda: run_train(one_step)))
        if repeat < PROCESS_REPEATS:
            ones.append(clips_per_second(data, run, 1))
            twos.append(clips_per_second(data, run, 2))
            apart.append(clips_per_second_apart(data, run))
    blocks = block_times(data, run, NANO, BLOCKS)
    rows = [
        row("a step under Lightning, nano, all trained", *blocks, unit="s", goal="at most 1.02"),
        row("two processes, tiny, memory and decoder", twos, ones, unit="clips/s", goal="at least 1.8"),
        row("two trainings of one process at once", apart, ones, unit="clips/s", goal="-"),
        row("start to the end of a step, nano", starts, imports, unit="s", goal="at most 1.5"),
    ]
    lightning, start = ratio(*blocks), ratio(starts, imports)
    return "\n".join(
        [
            f"# Around a training step, {date.today():%B %Y}",
            "",
            f"Machine: {machine()}; {versions()}, one thread a process; {date.today().isoformat()}.",
            f"Medians of {repeats} turns ({BLOCKS} of Lightning, {PROCESS_REPEATS} of the two processes); "
            "the ratio is the median of those of each turn.",
            "",
            "| what | ours | compared with | ratio | goal |",
            "|---|---:|---:|---:|---|",
            *rows,
            "",
            in_short(
                f"Lightning takes {lightning:.3f} x a bare loop, two processes train "
                f"{ratio(twos, ones):.2f} x the clips of one, two trainings at once "
                f"{ratio(apart, ones):.2f} x, the first step is over after {start:.2f} x the "
                f"time of the imports"
            ),
        ]
    )


def row(name: str, ours: list[float], theirs: list[float], unit: str, goal: str) -> str:
    a, b = statistics.median(ours), statistics.median(theirs)
    return f"| {name} | {a:.3f} {unit} | {b:.3f} {unit} | {ratio(ours, theirs):.3f} | {goal} |"


def ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(ours, theirs))


if __name__ == "__main__":
    main()
