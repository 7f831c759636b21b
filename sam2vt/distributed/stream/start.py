"""Decide where a group of workers starts: its first step, its checkpoint, and its stream of clips.

Ray's own processes load this module; it imports no torch, so that they start in a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import ray
import ray.train

from sam2vt.core.storage.fetching import local_copy
from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.distributed.board import show_logs
from sam2vt.distributed.stream.decode import build_dataset, quiet_ray_data
from sam2vt.distributed.stream.plan import Division, StreamPlan
from sam2vt.errors import Sam2vtError


class Start(NamedTuple):
    """The first step of a group of workers, and the checkpoint of the steps before it."""

    step: int  # of the plan
    samples_seen: int  # clips trained on before it, as the checkpoint counts them
    checkpoint: str | None  # local path or URI; None at the run's beginning


@dataclass(frozen=True)
class NextStream:
    """Decides where the next group of workers begins, and makes the stream from there.

    Ray Train's controller calls it before each group starts: at the beginning, after a failure, with other
    machines. Only it decides; the workers read the decision from the board. Raises the run's own error if it
    ended the last group.
    """

    job: ray.ObjectRef  # of a DecodeJob
    plan: StreamPlan
    given: Start  # while the run has no checkpoint of its own
    decode_actors: int
    store: str  # the folder or URI of the run's checkpoints
    board: Any

    def __call__(self) -> Stream:
        failure: Sam2vtError | None = ray.get(self.board.get_failure.remote())
        if failure is not None:
            raise failure
        show_logs(self.board)
        start = self._start()
        ray.get(self.board.set_start.remote(start))
        return Stream(self.job, self.plan, start.step, self.decode_actors)

    def _start(self) -> Start:
        store = CheckpointStore(self.store)
        newest = store.newest(verified=self.given.checkpoint)  # by the driver, a moment ago
        if newest is None:
            return self.given
        # Clips are counted, as steps are Lightning's updates, of which gradient accumulation makes fewer.
        steps = (newest.samples_seen - self.given.samples_seen) // self.plan.rows_per_step
        return Start(self.given.step + steps, newest.samples_seen, store.path(newest))


def local_checkpoint(path: str | None) -> AbstractContextManager[str | None]:
    """Return a context in which `path`, if given, is a file on this machine."""
    return nullcontext() if path is None else local_copy(path)


@dataclass(frozen=True)
class Stream:
    """The clips from a step to the run's end, before the number of workers is known."""

    job: ray.ObjectRef  # of a DecodeJob
    plan: StreamPlan
    first_step: int
    decode_actors: int

    def dataset(self, world_size: int) -> ray.data.Dataset:
        """Return the clips in the order in which `world_size` workers take turns."""
        quiet_ray_data()
        division = Division(self.plan, world_size)
        return build_dataset(self.job, division, first_step=self.first_step, decode_actors=self.decode_actors)


class StreamConfig(ray.train.DataConfig):
    """Divides a stream among the workers of a group.

    Order is preserved and locality ignored, so that the rank of a row follows from its number.
    """

    def __init__(self, decode_labels: Mapping[str, str] | None = None) -> None:
        # Ray Train would drop a label selector that is set on a DataContext.
        options = ray.data.ExecutionOptions(
            preserve_order=True, label_selector=dict(decode_labels or {}) or None
        )
        super().__init__(execution_options=options, enable_shard_locality=False)

    def configure(
        self, datasets: Any, world_size: int, worker_handles: Any, worker_node_ids: Any, **kwargs: Any
    ) -> list[dict[str, ray.data.DataIterator]]:
        """Return the iterators of each worker over its share; Ray Train calls this per group."""
        built = {name: stream.dataset(world_size) for name, stream in datasets.items()}
        return super().configure(built, world_size, worker_handles, worker_node_ids, **kwargs)
