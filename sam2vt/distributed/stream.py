"""A rank's batches out of Ray Data, byte for byte those of the local loader.

What a row holds depends on its number alone. Blocks of exactly one batch in preserved order make rank
and step follow from the number too, and the reader checks that they do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
import ray.data
import ray.train

from sam2vt.core.data.collate import collate_fn
from sam2vt.core.types import Batch
from sam2vt.distributed.plan import StreamPlan
from sam2vt.distributed.wire import POSITION, unpack_clips
from sam2vt.errors import TrainingError

Rows = dict[str, np.ndarray]


def data_config() -> ray.train.DataConfig:
    """Order kept and no regard to locality, so that a row's rank follows from its number."""
    options = ray.data.ExecutionOptions(preserve_order=True)
    return ray.train.DataConfig(execution_options=options, enable_shard_locality=False)


class StreamLoader:
    """A rank's batches with the length of an epoch, over one reader of all epochs.

    Lightning asks for an iterator each epoch; each goes on where the last one stopped, and after a
    resume the first one yields what was left of its epoch. Lightning's limit on training batches is
    part of the plan already: an iterator ends where the next epoch's rows begin.
    """

    def __init__(
        self,
        open_shard: Callable[[], ray.data.DataIterator],
        plan: StreamPlan,
        rank: int,
        *,
        first_step: int = 0,
        prefetch: int = 2,
    ) -> None:
        self.plan, self.rank, self.step = plan, rank, first_step
        self._open_shard, self._prefetch = open_shard, prefetch
        self._ready: Queue[Rows | Exception | None] | None = None

    def __len__(self) -> int:
        return self.plan.steps_per_epoch

    def __iter__(self) -> Iterator[Batch]:
        stop = min(self.plan.epoch_end(self.step), self.plan.total_steps)
        while self.step < stop:
            yield self._next_batch()

    def start(self) -> None:
        """Begin to read in the background, so that decoding runs while the model is being built."""
        if self._ready is None:
            self._ready = Queue(maxsize=max(1, self._prefetch))
            Thread(target=self._read, args=(self._ready,), name="stream-reader", daemon=True).start()

    def _next_batch(self) -> Batch:
        self.start()
        assert self._ready is not None
        rows = self._ready.get()
        if isinstance(rows, Exception):
            raise rows
        expected = list(self.plan.rows(self.step, self.rank))
        got = [] if rows is None else rows[POSITION].tolist()
        if rows is None or got != expected:
            raise TrainingError(
                f"the stream gave rank {self.rank} the rows {got} at step {self.step} instead of {expected}: "
                "they would not be the clips that the run's position stands for"
            )
        self.step += 1
        return collate_fn(unpack_clips(rows))

    def _read(self, ready: Queue[Any]) -> None:
        options: dict[str, Any] = {"batch_size": self.plan.batch_size, "batch_format": "numpy"}
        try:
            for rows in self._open_shard().iter_batches(prefetch_batches=self._prefetch, **options):
                ready.put(rows)
            ready.put(None)
        except Exception as error:  # raised again where the batch is asked for
            ready.put(error)
