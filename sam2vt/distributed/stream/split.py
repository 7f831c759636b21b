"""A stream of clips, divided among the workers of the moment.

Ray's own manager processes load this module; it imports no torch, so that they start in a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
import ray.data
import ray.train

from sam2vt.distributed.stream.decode import build_dataset, quiet_ray_data
from sam2vt.distributed.stream.plan import Division, StreamPlan


@dataclass(frozen=True)
class Stream:
    """The clips from a step to the run's end; Ray Train hands it on until the number of workers is known."""

    job: ray.ObjectRef  # of a DecodeJob
    plan: StreamPlan
    first_step: int
    decode_actors: int

    def dataset(self, world_size: int) -> ray.data.Dataset:
        quiet_ray_data()
        division = Division(self.plan, world_size)
        return build_dataset(self.job, division, first_step=self.first_step, decode_actors=self.decode_actors)


class StreamConfig(ray.train.DataConfig):
    """Divides a stream among the workers of the moment.

    Order is kept and locality left aside, so that a row's rank follows from its number.
    """

    def __init__(self, decode_labels: Mapping[str, str] | None = None) -> None:
        # Set on a DataContext, a label selector would be dropped by Ray Train.
        options = ray.data.ExecutionOptions(
            preserve_order=True, label_selector=dict(decode_labels or {}) or None
        )
        super().__init__(execution_options=options, enable_shard_locality=False)

    def configure(
        self, datasets: Any, world_size: int, worker_handles: Any, worker_node_ids: Any, **kwargs: Any
    ) -> list[dict[str, ray.data.DataIterator]]:
        built = {name: stream.dataset(world_size) for name, stream in datasets.items()}
        return super().configure(built, world_size, worker_handles, worker_node_ids, **kwargs)
