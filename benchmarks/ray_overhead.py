"""The overhead of Ray on a training step: one worker under Ray Train against plain Lightning.

Both sides train the same configuration from the same random weights on the same clips in the same order, with
the same number of threads. Each repeat runs in its own process, and the sides take turns. Times are those of
warm steps, from the end of one to the end of the next, including waits for data, logging and our callbacks.
Prints the medians, their ratio, and the share of the time that each side waits for its next batch.

    python benchmarks/ray_overhead.py [DATA] [--steps 150] [--skip 30] [--repeats 5] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import lightning as L
from machine import argument_parser, in_short, machine, spread, versions, write_record
from trainings import FOUR_FRAMES

from sam2vt.composing import compose_config
from sam2vt.config import Config
from sam2vt.configuration.loading import load_config
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.train import create_trainer, setup_logging

SIDES = ("lightning", "ray")
GOAL_RATIO, GOAL_WAIT = 1.02, 0.02
TIMES = "times.json"


@dataclass
class Times:
    """Of one repeat's warm steps."""

    step: float  # median seconds
    wait: float  # share of the time spent asking for batches


class Stamp(L.Callback):
    """Writes the end of each step, and the seconds waited for data until then, into the run folder."""

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / TIMES
        self.stamps: list[tuple[float, float]] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        from sam2vt.core.training.callbacks.throughput import Throughput

        (meter,) = [each.total for each in trainer.callbacks if isinstance(each, Throughput)]
        self.stamps.append((time.perf_counter(), meter.waited))

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.path.write_text(json.dumps(self.stamps))


def configuration(data: str, folder: str, steps: int) -> Config:
    """The demo's network with one worker and no validation."""
    overrides = [
        *("experiment=demo", f"dataset.data_path={data}", f"output_dir={folder}"),
        *FOUR_FRAMES,
        *("trainer.limit_val_batches=0", "trainer.val_check_interval=1.0", "trainer.num_overlay_videos=0"),
        *(f"trainer.max_steps={steps}", "trainer.enable_progress_bar=false"),
        *("scheduler.warmup_steps=1", "ray.num_workers=1", "ray.local_cpus=3"),
    ]
    return load_config(compose_config(overrides))


def train_lightning(config: Config) -> None:
    """As `sam2vt train` does it."""
    import torch

    from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule

    torch.set_num_threads(config.ray.cpus_per_worker)
    L.seed_everything(config.seed, workers=True, verbose=False)
    trainer = create_trainer(config, [Stamp(config.output_dir)])
    trainer.fit(SAM2LightningModule(config), datamodule=SAM2LightningDataModule(config))


def train_ray(config: Config) -> None:
    """As `ray_jobs/train.py` does it."""
    from sam2vt.distributed.launch import fit

    fit(config, stamped)


def stamped(job: Any) -> Any:
    """A worker's training with our callback."""
    from sam2vt.distributed.worker import entry
    from sam2vt.distributed.worker import training as worker

    default = worker.default_callbacks
    worker.default_callbacks = lambda config: [*default(config), Stamp(config.output_dir)]  # type: ignore[attr-defined]
    return entry.train_on_worker(job)


def measure(side: str, data: str, steps: int, skip: int) -> Times:
    """One repeat in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="ray-overhead-") as folder:
        options = ["--side", side, "--folder", f"{folder}/run", "--steps", str(steps)]
        command = [sys.executable, __file__, data, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        stamps = json.loads((Path(folder) / "run" / TIMES).read_text())[skip:]
    ends, waited = zip(*stamps)
    intervals = [later - earlier for earlier, later in itertools.pairwise(ends)]
    return Times(statistics.median(intervals), (waited[-1] - waited[0]) / (ends[-1] - ends[0]))


def report(times: dict[str, list[Times]], steps: int, skip: int) -> str:
    plain, on_ray = (times[side] for side in SIDES)
    ratio = statistics.median(b.step / a.step for a, b in zip(plain, on_ray))
    wait = statistics.median(each.wait for each in on_ray)
    lines = [
        f"# Ray's overhead on a step, {date.today():%B %Y}",
        "",
        f"Machine: {machine()}, 1 thread a process, no GPU; {versions()}; {date.today().isoformat()}.",
        f"The demo's nano network, 128 px, clips of 4 frames, one worker, one process that decodes; {steps} "
        f"steps, the first {skip} left out; {len(plain)} repeats in turn. Medians (lowest to highest).",
        "",
        "| | plain Lightning | Ray Train |",
        "|---|---|---|",
        f"| ms a step | {spread([1e3 * t.step for t in plain])} | {spread([1e3 * t.step for t in on_ray])} |",
        f"| % of it in next() | {spread([1e2 * t.wait for t in plain])} | "
        f"{spread([1e2 * t.wait for t in on_ray])} |",
        "",
        f"Step time on Ray over plain, pair by pair: {ratio:.3f} (goal at most {GOAL_RATIO}: "
        f"{verdict(ratio <= GOAL_RATIO)}). Waiting in next() on Ray: {100 * wait:.1f}% of the time (goal at "
        f"most {100 * GOAL_WAIT:.0f}% where CPUs suffice: {verdict(wait <= GOAL_WAIT)}).",
        "",
        in_short(
            f"a step on Ray Train takes {ratio:.2f} x the time of one under plain Lightning; "
            f"{100 * wait:.0f}% of it waits for data"
        ),
    ]
    return "\n".join(lines)


def verdict(reached: bool) -> str:
    return "reached" if reached else "not reached"


def main() -> None:
    parser = argument_parser(__doc__, repeats=5)
    parser.add_argument("data", nargs="?", help="a folder of videos; by default some are generated")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--skip", type=int, default=30, help="steps at the start that do not count")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # for the processes started here
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        setup_logging("WARNING")
        config = configuration(options.data, options.folder, options.steps)
        return train_ray(config) if options.side == "ray" else train_lightning(config)
    with tempfile.TemporaryDirectory(prefix="ray-overhead-data-") as folder:
        data = options.data or f"{folder}/videos"
        if options.data is None:
            write_sample_data(data, num_videos=3, num_frames=60)
        times: dict[str, list[Times]] = {side: [] for side in SIDES}
        for repeat in range(options.repeats):
            for side in SIDES if repeat % 2 == 0 else SIDES[::-1]:
                times[side].append(measure(side, data, options.steps, options.skip))
                print(f"repeat {repeat + 1}, {side}: {times[side][-1]}", flush=True)
    text = report(times, options.steps, options.skip)
    write_record(text, options.out)


if __name__ == "__main__":
    main()
