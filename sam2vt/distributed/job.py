"""What the driver hands to every worker."""

from __future__ import annotations

from typing import Any, TypedDict

from sam2vt.distributed.plan import StreamPlan
from sam2vt.distributed.storage import RunStorage


class Job(TypedDict):
    """The arguments of `train_loop`."""

    config: dict[str, Any]  # `to_dict` of a validated Config with absolute paths
    plan: StreamPlan
    storage: RunStorage
    board: Any  # handle on the actor of `sam2vt.distributed.progress.Board`


def train_on_worker(job: Job) -> dict[str, Any] | None:
    """`train_loop`, whose module only workers load: it takes seconds."""
    from sam2vt.distributed.worker import train_loop

    return train_loop(job)
