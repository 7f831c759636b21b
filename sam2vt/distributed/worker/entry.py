"""The first lines of a worker: start reading clips, then load and run the training."""

from __future__ import annotations

from typing import Any

import ray.train

from sam2vt.distributed.job import Job
from sam2vt.distributed.stream.plan import Division
from sam2vt.distributed.stream.start import Start, local_checkpoint


def train_on_worker(job: Job) -> dict[str, Any] | None:
    """Have the clips read while the modules of the training load, which takes seconds; then train."""
    from sam2vt.distributed.stream.loader import StreamLoader

    context, settings = ray.train.get_context(), job["config"]["ray"]
    start: Start = ray.get(job["board"].start.remote())
    loader = StreamLoader(
        lambda: ray.train.get_dataset_shard("train"),
        Division(job["plan"], context.get_world_size()),
        context.get_world_rank(),
        first_step=start.step,
        prefetch=settings["prefetch_batches"],
    )
    loader.start()
    from sam2vt.distributed.worker.training import train_loop

    try:
        with local_checkpoint(start.checkpoint) as resume:
            return train_loop(job, loader, resume)
    finally:
        loader.close()
