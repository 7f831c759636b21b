"""Start-up and step time of the stream for 10,000 and 1,000,000 videos.

The metadata is a record table of that many videos of 20 frames. All of them refer to one small generated
video, so that every clip can be decoded. Each size is measured in its own process: from its start to the
first batch (modules, plan, Ray, Ray Data, a decode actor), then 50 batches. It also records the peak of
resident memory of the driver and of every process of Ray.

    python benchmarks/scale.py --out benchmarks/scale_<machine>_<date>.md
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from machine import argument_parser, in_short, machine, versions, write_record

STARTED = time.time()
FRAMES, BATCHES, SIZE, LENGTH = 20, 50, 128, 4
GOALS = {"first_batch_s": 60.0, "driver_mb": 2048.0, "actor_mb": 500.0, "ratio": 2.0}


def main() -> None:
    parser = argument_parser(__doc__, repeats=1)
    parser.add_argument("--videos", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="for the tables; default: a temporary one")
    parser.add_argument("--split", default="none", help="none, video or time (default: %(default)s)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.split)), flush=True)
        os._exit(0)  # Ray ends with this process; the reader of an endless stream would fail at its shutdown
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        tables = {number: write_table(folder, number) for number in options.videos}
        found = [
            {"videos": number, **run_measurement(table, options.split)}
            for _ in range(options.repeats)
            for number, table in tables.items()
        ]
    print(json.dumps(found, indent=1))
    text = report(found, options.split)
    write_record(text, options.out)


def write_table(folder: Path, num_videos: int) -> Path:
    """The record table of `num_videos` videos, in bounded memory; one that is there already is kept."""
    from sam2vt.core.data.formats import load_records
    from sam2vt.core.data.records.table import write_records
    from sam2vt.core.data.writing.sample_data import write_sample_data
    from sam2vt.core.types import VideoRecord

    video, table = folder / "video", folder / f"videos_{num_videos}.parquet"
    if not video.exists():
        write_sample_data(video, num_videos=1, num_frames=FRAMES, size=(96, 128))
    if table.exists():
        return table
    (record,) = load_records("auto", video)

    def records() -> Iterator[VideoRecord]:
        for number in range(num_videos):
            yield replace(record, video_id=f"video_{number:08d}")

    began = time.monotonic()
    write_records(records(), table)
    size = table.stat().st_size / 2**20
    print(f"{table}: {size:.1f} MB in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return table


def run_measurement(table: Path, split: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", str(table), "--split", split]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def measure(table: Path, split: str) -> dict[str, float]:
    """Read batches as a run on Ray does, in this process instead of a worker."""
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # to another Ray, once this one has ended
    import ray

    from sam2vt.distributed.cluster.storage import run_storage
    from sam2vt.distributed.source import find_clips
    from sam2vt.distributed.stream.decode import quiet_ray_data
    from sam2vt.distributed.stream.plan import Division
    from sam2vt.distributed.stream.start import Stream, StreamConfig

    with tempfile.TemporaryDirectory() as run_folder:
        config = config_for(table, split, run_folder)
        source = find_clips(config, run_storage(config))
    planned = time.time()
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    quiet_ray_data()
    ray_ready = time.time()
    stream = Stream(ray.put(source.job), source.plan, 0, decode_actors=1)
    (shard,) = StreamConfig().configure({"train": stream}, 1, None, None)

    from sam2vt.distributed.stream.loader import StreamLoader

    loader = StreamLoader(lambda: shard["train"], Division(source.plan, 1), 0)
    batches = iter(loader)
    next(batches)
    first = time.time()
    for _ in range(BATCHES):
        next(batches)
    seconds = (time.time() - first) / BATCHES
    memory = peaks_of_memory()
    return {
        "first_batch_s": round(first - STARTED, 2),
        "plan_s": round(planned - STARTED, 2),
        "ray_s": round(ray_ready - planned, 2),
        "stream_s": round(first - ray_ready, 2),
        "batch_s": round(seconds, 5),
        "driver_mb": memory.pop("driver"),
        "actor_mb": max(memory.values()),
        **{f"{name} MB": value for name, value in memory.items()},
    }


def config_for(table: Path, split: str, run_folder: str) -> Any:
    from sam2vt.config import Config

    config = Config(split=split, output_dir=run_folder)
    config.dataset.data_path = str(table)
    for dataset in (config.dataset, config.valdataset):
        dataset.image_size, dataset.video_clip_length = (SIZE, SIZE), LENGTH
    config.dataset.batch_size, config.ray.num_workers = 2, 1
    config.trainer.max_epochs = 10
    return config


def peaks_of_memory() -> dict[str, float]:
    """Peak of resident memory in MB of this process and of Ray's workers below it, by what they run."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(entry.name)] = (entry / "cmdline").read_text().split("\0")[0]
            except OSError:
                continue  # it has ended
    found = {"driver": _peak(os.getpid())}
    for process, name in names.items():
        if name.startswith("ray::") and name != "ray::IDLE" and _is_below(process, os.getpid(), parents):
            found[name] = max(found.get(name, 0.0), _peak(process))
    return found


def _is_below(process: int, top: int, parents: dict[int, int]) -> bool:
    while process in parents and process != top:
        process = parents[process]
    return process == top


def _peak(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (peak,) = [line for line in lines if line.startswith("VmHWM")]
    return round(int(peak.split()[1]) / 1024, 1)


def report(found: list[dict[str, float]], split: str) -> str:
    sizes = sorted(row["videos"] for row in found)
    smallest, largest = sizes[0], sizes[-1]
    per_batch = {n: min(row["batch_s"] for row in found if row["videos"] == n) for n in (smallest, largest)}
    large = [row for row in found if row["videos"] == largest]
    reached = {
        "first_batch_s": max(row["first_batch_s"] for row in large),
        "driver_mb": max(row["driver_mb"] for row in large),
        "actor_mb": max(row["actor_mb"] for row in large),
        "ratio": round(per_batch[largest] / per_batch[smallest], 2),
    }
    names = {
        "first_batch_s": f"seconds to the first batch, {largest:,} videos",
        "driver_mb": "driver, peak of resident MB",
        "actor_mb": "largest actor of Ray, peak of resident MB",
        "ratio": f"time a batch, {largest:,} over {smallest:,} videos",
    }
    goals = [
        f"| {names[name]} | {reached[name]} | {goal:g} | {'yes' if reached[name] <= goal else 'no'} |"
        for name, goal in GOALS.items()
    ]
    columns = ("videos", "first_batch_s", "plan_s", "ray_s", "stream_s", "batch_s", "driver_mb", "actor_mb")
    rows = [f"| {' | '.join(f'{row[name]:,}' for name in columns)} |" for row in found]
    return "\n".join(
        [
            f"# The stream over a million videos, {time.strftime('%B %Y')}",
            "",
            f"Machine: {machine()}; {versions()}; {time.strftime('%Y-%m-%d')}. Record tables of videos "
            f"of {FRAMES} frames, split={split}; clips of {LENGTH} frames at {SIZE} px in "
            "batches of 2, one decode actor.",
            "",
            "| what | figure | goal: at most | reached |",
            "|---|---:|---:|---|",
            *goals,
            "",
            f"| {' | '.join(columns)} |",
            "|---:|" + "---:|" * (len(columns) - 1),
            *rows,
            "",
            "`first_batch_s` is plan (with its modules), Ray's start, and the stream's start until a batch "
            f"is there. `batch_s` is the mean of the {BATCHES} batches after it. Memory counts shared "
            "pages of libraries and of the object store in full.",
            "",
            in_short(
                f"{largest:,} videos: first batch after {reached['first_batch_s']:.0f} s, driver "
                f"{reached['driver_mb']:.0f} MB; a batch takes {reached['ratio']} x the time it takes with "
                f"{smallest:,} videos"
            ),
        ]
    )


if __name__ == "__main__":
    main()
