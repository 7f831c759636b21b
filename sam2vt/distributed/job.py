"""What the driver hands to every worker, and what a worker does first."""

from __future__ import annotations

from typing import Any, TypedDict

import ray
import ray.train

from sam2vt.distributed.plan import Division, StreamPlan
from sam2vt.distributed.resuming import Start, local_checkpoint
from sam2vt.distributed.storage import RunStorage


class Job(TypedDict):
    """The arguments of a worker's training."""

    config: dict[str, Any]  # `to_dict` of a validated Config with absolute paths
    plan: StreamPlan
    records: ray.ObjectRef  # of (training, validation); a reference, since opening them loads torch
    storage: RunStorage
    board: Any  # handle on the actor of `sam2vt.distributed.progress.Board`


def train_on_worker(job: Job) -> dict[str, Any] | None:
    """Have the clips read while the modules of the training load, which takes seconds; then train."""
    from sam2vt.distributed.stream import StreamLoader

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
    from sam2vt.distributed.worker import train_loop

    try:
        with local_checkpoint(start.checkpoint) as resume:
            return train_loop(job, loader, resume)
    finally:
        loader.close()
