"""The arguments that the driver hands to every worker."""

from __future__ import annotations

from typing import Any, TypedDict

import ray

from sam2vt.distributed.cluster.storage import RunStorage
from sam2vt.distributed.stream.plan import StreamPlan


class Job(TypedDict):
    """The arguments of a worker's training."""

    config: dict[str, Any]  # `to_dict` of a validated Config with absolute paths
    plan: StreamPlan
    records: ray.ObjectRef  # of (training, validation); a reference, since opening them loads torch
    storage: RunStorage
    board: Any  # handle on the actor of `sam2vt.distributed.board.Board`
