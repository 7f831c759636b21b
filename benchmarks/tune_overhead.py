"""The overhead of Ray Tune on a trial: n trials one after the other in a sweep against n plain runs.

Both train the demo's network for the same steps on the same clips. Each side has its own process and its
own Ray, and the sides take turns. A plain run is `sam2vt.distributed.launch.fit`. All runs of a side
share one Ray. Time counts from the start of the first run to the end of the last one, without the start
and end of Ray.

    python benchmarks/tune_overhead.py [DATA] [--steps 400] [--trials 2] [--repeats 3] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date
from typing import Any

from machine import argument_parser, in_short, machine, spread, versions, write_record
from trainings import FOUR_FRAMES

from sam2vt.composing import compose_config
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.train import setup_logging

SIDES = ("plain", "tune")
GOAL, LEAST_SECONDS = 1.05, 60.0


def overrides(data: str, folder: str, steps: int) -> list[str]:
    """The demo's network with one worker, two validations and no pictures."""
    return [
        *("experiment=demo", f"dataset.data_path={data}", f"output_dir={folder}", "ray.num_workers=1"),
        *(*FOUR_FRAMES, "scheduler.warmup_steps=20"),
        *(f"trainer.max_steps={steps}", f"trainer.val_check_interval={steps // 2}", "ray.local_cpus=3"),
        *("trainer.num_overlay_videos=0", "trainer.enable_progress_bar=false"),
    ]


def run_plain(data: str, folder: str, steps: int, trials: int) -> float:
    from sam2vt.configuration.loading import load_config
    from sam2vt.distributed.cluster.session import ray_session
    from sam2vt.distributed.launch import fit

    config = load_config(compose_config(overrides(data, folder, steps)))
    with ray_session(config, dashboard=True):
        began = time.perf_counter()
        for number in range(trials):
            run = f"{folder}/plain_{number}"
            fit(replace(config, output_dir=run, save_dir=f"{run}/checkpoints"))
        return time.perf_counter() - began


def run_tune(data: str, folder: str, steps: int, trials: int) -> float:
    """The sweep's default and copies of it: values that change nothing."""
    from sam2vt.configuration.sweep import load_sweep
    from sam2vt.distributed.cluster.session import ray_session
    from sam2vt.distributed.sweep.launch import run_sweep

    settings = ["sweep=default", f"sweep.num_trials={trials}", "sweep.max_concurrent=1"]
    settings += ["sweep.algorithm=random", "sweep.scheduler=none", "+sweep.space.seed={choice: [0]}"]
    sweep = load_sweep(compose_config([*overrides(data, folder, steps), *settings]))
    with ray_session(sweep.base.config({}), dashboard=True):
        began = time.perf_counter()
        result = run_sweep(sweep)
        seconds = time.perf_counter() - began
    assert [trial.status for trial in result.trials] == ["done"] * trials
    return seconds


def measure(side: str, data: str, options: argparse.Namespace) -> float:
    """Seconds a trial of one repeat, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="tune-overhead-") as folder:
        sizes = ["--steps", str(options.steps), "--trials", str(options.trials)]
        command = [sys.executable, __file__, data, "--side", side, "--folder", f"{folder}/run", *sizes]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(run.stdout.splitlines()[-1]) / options.trials


def report(seconds: dict[str, list[float]], options: argparse.Namespace) -> str:
    ratio = statistics.median(b / a for a, b in zip(seconds["plain"], seconds["tune"]))
    long_enough = statistics.median(seconds["plain"]) >= LEAST_SECONDS
    reached = "reached" if ratio <= GOAL else "not reached"
    return "\n".join(
        [
            f"# Ray Tune's overhead on a trial, {date.today():%B %Y}",
            "",
            f"Machine: {machine()}, no GPU; {versions()}; {date.today().isoformat()}.",
            f"The demo's nano network, 128 px, one worker, {options.steps} steps with two validations; "
            f"{options.trials} runs one after the other a side, {options.repeats} repeats in turn. Seconds a "
            "run: medians (lowest to highest).",
            "",
            "| plain runs | trials of a sweep | ratio, pair by pair |",
            "|---|---|---|",
            f"| {spread(seconds['plain'])} | {spread(seconds['tune'])} | {ratio:.3f} |",
            "",
            f"Goal: at most {GOAL} where a trial takes {LEAST_SECONDS:.0f} s or more "
            f"({'it did' if long_enough else 'it took less'}): {reached}.",
            "",
            in_short(f"a trial of a sweep takes {ratio:.3f} x a plain run of the same steps"),
        ]
    )


def main() -> None:
    parser = argument_parser(__doc__, repeats=3)
    parser.add_argument("data", nargs="?", help="a folder of videos; by default some are generated")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--trials", type=int, default=2, help="runs of a side in a repeat, at least 2")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # for the processes started here
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        setup_logging("WARNING")
        run: Any = run_plain if options.side == "plain" else run_tune
        print(json.dumps(run(options.data, options.folder, options.steps, options.trials)))
        return
    with tempfile.TemporaryDirectory(prefix="tune-overhead-data-") as folder:
        data = options.data or f"{folder}/videos"
        if options.data is None:
            write_sample_data(data, num_videos=2, num_frames=24)
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        for repeat in range(options.repeats):
            for side in SIDES if repeat % 2 == 0 else SIDES[::-1]:
                seconds[side].append(measure(side, data, options))
                print(f"repeat {repeat + 1}, {side}: {seconds[side][-1]:.1f} s a run", flush=True)
    text = report(seconds, options)
    write_record(text, options.out)


if __name__ == "__main__":
    main()
