"""Clips per second from Ray Data against the raw decoder and against a torch DataLoader, in one run.

The three take turns over the same clips: a loop that draws them in this process; the stream as a worker
reads it, with one decode actor; torch's DataLoader with one worker process. Bytes in the object store are
those of the packed columns as Arrow holds them.

    python benchmarks/ingest.py --data <videos> --out benchmarks/ingest_<machine>_<date>.md
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import torch
from machine import argument_parser, in_short, machine, versions, write_record
from torch.utils.data import DataLoader

from sam2vt.config import Config
from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.data.clips.sampling import ClipSampler
from sam2vt.core.data.dataset import dataset_from_config
from sam2vt.core.data.workers import init_worker
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.types import Batch
from sam2vt.distributed.cluster.storage import run_storage
from sam2vt.distributed.source import ClipSource, find_clips
from sam2vt.distributed.stream.decode import ClipDecoder, quiet_ray_data
from sam2vt.distributed.stream.loader import StreamLoader
from sam2vt.distributed.stream.plan import Division
from sam2vt.distributed.stream.start import Stream, StreamConfig

GOALS = {"stream / decoder": 0.85, "stream / DataLoader": 0.95, "bytes a clip / (T*H*W*4)": 1.1}
# Batches before and after those that are timed: processes start, and no queue runs empty in between.
WARM_UP, TAIL = 4, 8


def main() -> None:
    parser = argument_parser(__doc__, repeats=5)
    parser.add_argument("--data", help="videos; default: generated ones of 480p")
    parser.add_argument("--size", type=int, default=512, help="pixels (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=8, help="of a clip (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--batches", type=int, default=30, help="timed in a turn (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not options.data:
            options.data = os.path.join(folder, "videos")
            write_sample_data(options.data, num_videos=2, num_frames=60, size=(480, 854))
        found = compare(config_for(options, folder), options)
    print(json.dumps(found, indent=1))
    text = report(found, options)
    write_record(text, options.out)


def config_for(options: argparse.Namespace, folder: str) -> Config:
    config = Config(output_dir=os.path.join(folder, "run"), max_objects=3)
    config.dataset.data_path = options.data
    for dataset in (config.dataset, config.valdataset):
        dataset.image_size = (options.size, options.size)
        dataset.video_clip_length = options.frames
    config.dataset.batch_size, config.dataset.prompt_types = options.batch_size, ["mask"]
    steps = WARM_UP + options.batches + TAIL
    config.dataset.clips_per_video = options.batch_size * steps
    config.ray.num_workers, config.trainer.max_epochs, config.trainer.max_steps = 1, 1, steps
    return config


def compare(config: Config, options: argparse.Namespace) -> dict[str, Any]:
    """Clips a second of each, a figure a turn; the turns alternate."""
    import ray

    cv2.setNumThreads(0)  # the raw decoder gets one CPU, as a decode actor and a DataLoader's worker do
    torch.set_num_threads(1)
    source = find_clips(config, run_storage(config))
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    quiet_ray_data()
    ways: dict[str, Callable[[], Iterator[Any]]] = {
        "decoder": lambda: raw_clips(source),
        "stream": lambda: stream_batches(source),
        "DataLoader": lambda: loader_batches(config, source),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.repeats):
        names = list(ways)[turn % 3 :] + list(ways)[: turn % 3]
        for name in names:
            rates[name].append(clips_per_second(ways[name](), options))
            print(f"turn {turn + 1}: {name} {rates[name][-1]:.2f} clips/s", flush=True)
    ray.shutdown()
    pixels = options.frames * options.size**2 * 4
    of_pairs = {
        f"stream / {other}": statistics.median(a / b for a, b in zip(rates["stream"], rates[other]))
        for other in ("decoder", "DataLoader")
    }
    return {
        "clips_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "turns": rates,
        **of_pairs,
        "bytes a clip / (T*H*W*4)": packed_bytes(source) / pixels,
    }


def clips_per_second(batches: Iterator[Any], options: argparse.Namespace) -> float:
    """Over the batches after the warm-up."""
    for _ in islice(batches, WARM_UP):
        pass
    began, number = time.perf_counter(), 0
    for _ in islice(batches, options.batches):
        number += options.batch_size
    seconds = time.perf_counter() - began
    for _ in islice(batches, TAIL):
        pass  # read to the end, so that its processes are idle in the next turn
    return number / seconds


def raw_clips(source: ClipSource) -> Iterator[Batch]:
    """The decoder in a loop: clips drawn and made a batch, nothing sent anywhere."""
    from sam2vt.core.data.clips.drawing import make_clip
    from sam2vt.core.data.clips.sampling import sample_at

    job, size = source.job, source.plan.batch_size
    for start in range(0, source.plan.total_rows, size):
        keys = [sample_at(position, **job.sampling) for position in range(start, start + size)]
        yield collate_fn([make_clip(job.records, key, job.spec) for key in keys])


def stream_batches(source: ClipSource) -> Iterator[Batch]:
    import ray

    stream = Stream(ray.put(source.job), source.plan, 0, decode_actors=1)
    (shard,) = StreamConfig().configure({"train": stream}, 1, None, None)
    yield from StreamLoader(lambda: shard["train"], Division(source.plan, 1), 0)


def loader_batches(config: Config, source: ClipSource) -> Iterator[Batch]:
    dataset = dataset_from_config(config.dataset, records=source.records[0], max_objects=config.max_objects)
    sampler = ClipSampler(
        len(dataset),
        config.dataset.clips_per_video,
        config.seed,
        config.dataset.shuffle,
        batch_size=config.dataset.batch_size,
    )
    yield from DataLoader(
        dataset,
        config.dataset.batch_size,
        sampler=sampler,
        num_workers=1,
        collate_fn=collate_fn,
        worker_init_fn=init_worker,
    )


def packed_bytes(source: ClipSource) -> float:
    """Of the run's first clip."""
    import numpy as np
    from ray.data.block import BlockAccessor

    decoder = ClipDecoder.__new__(ClipDecoder)
    decoder.job, decoder.division, decoder.first_slot = source.job, Division(source.plan, 1), 0
    block = BlockAccessor.batch_to_block(decoder({"id": np.arange(1)}))
    return BlockAccessor.for_block(block).size_bytes()


def report(found: dict[str, Any], options: argparse.Namespace) -> str:
    goals = []
    for name, goal in GOALS.items():
        reached = found[name] <= goal if "bytes" in name else found[name] >= goal
        goals.append(f"| {name} | {found[name]:.3f} | {goal} | {'yes' if reached else 'no'} |")
    turns = [
        f"| {name} | {rate:.2f} | {', '.join(f'{each:.2f}' for each in found['turns'][name])} |"
        for name, rate in found["clips_per_second"].items()
    ]
    return "\n".join(
        [
            f"# Ray Data against the raw decoder, {time.strftime('%B %Y')}",
            "",
            f"Machine: {machine()}; {versions()}; {time.strftime('%Y-%m-%d')}. {Path(options.data).name}, "
            f"clips of {options.frames} frames at {options.size} px, batches of {options.batch_size}, mask "
            f"prompts; {options.repeats} turns of {options.batches} batches each.",
            "",
            "| what (ratios: median of the turns) | figure | goal | reached |",
            "|---|---:|---:|---|",
            *goals,
            "",
            "| clips a second | median | turn by turn |",
            "|---|---:|---|",
            *turns,
            "",
            in_short(
                f"Ray Data gives {found['stream / decoder']:.2f} x the clips per second of the bare decoder, "
                f"{found['stream / DataLoader']:.2f} x those of torch's DataLoader"
            ),
        ]
    )


if __name__ == "__main__":
    main()
