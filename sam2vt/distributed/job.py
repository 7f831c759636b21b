"""What the driver hands to every worker, and what a worker does first."""

from __future__ import annotations

from typing import Any, TypedDict

import ray.train

from sam2vt.distributed.plan import StreamPlan
from sam2vt.distributed.resuming import first_step_of, newest_checkpoint
from sam2vt.distributed.storage import RunStorage


class Job(TypedDict):
    """The arguments of a worker's training."""

    config: dict[str, Any]  # `to_dict` of a validated Config with absolute paths
    plan: StreamPlan
    storage: RunStorage
    board: Any  # handle on the actor of `sam2vt.distributed.progress.Board`


def train_on_worker(job: Job) -> dict[str, Any] | None:
    """Have the clips read while the modules of the training load, which takes seconds; then train."""
    from sam2vt.distributed.stream import StreamLoader

    rank, settings = ray.train.get_context().get_world_rank(), job["config"]["ray"]
    with newest_checkpoint(job["config"]["resume"]) as resume:
        loader = StreamLoader(
            lambda: ray.train.get_dataset_shard("train"),
            job["plan"],
            rank,
            first_step=first_step_of(job["plan"], resume),
            prefetch=settings["prefetch_batches"],
        )
        loader.start()
        from sam2vt.distributed.worker import train_loop

        return train_loop(job, loader, resume)
