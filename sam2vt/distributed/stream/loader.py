"""Load the batches of a rank from Ray Data, byte for byte equal to those of the local loader.

The content of a row depends only on its number. Blocks contain exactly one batch and keep their order, so
rank and step also follow from the number; the reader checks this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from queue import Full, Queue
from threading import Event, Thread
from typing import Any

import numpy as np
import ray.data

from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.training.updates import counted_by_update
from sam2vt.core.types import Batch
from sam2vt.distributed.stream.plan import Division
from sam2vt.distributed.stream.wire import POSITION, unpack_clips
from sam2vt.errors import Sam2vtError, TrainingError

Item = tuple[list[int], Any]  # a batch's rows; the batch, or why there is none


class StreamLoader:
    """The batches of a rank, one iterator per epoch, over one reader of all epochs.

    Lightning asks for an iterator per epoch; each continues where the last one stopped, and after a resume
    the first one yields the rest of its epoch. The plan already contains Lightning's limit on training
    batches: an iterator ends where the rows of the next epoch begin. An update takes `steps_per_update` steps
    of the plan, each in its rounds; its batches carry the numbers of all of them.
    """

    def __init__(
        self,
        open_shard: Callable[[], ray.data.DataIterator],
        division: Division,
        rank: int,
        *,
        first_step: int = 0,
        prefetch: int = 2,
        steps_per_update: int = 1,
    ) -> None:
        self.division, self.rank = division, rank
        self._batches_per_update = steps_per_update * division.rounds
        self.batch = first_step * division.rounds  # the number of the next one, from the run's start
        self._open_shard, self._prefetch = open_shard, prefetch
        self._ready: Queue[Item] | None = None
        self._closed = Event()

    def __len__(self) -> int:
        return self.division.plan.steps_per_epoch * self.division.rounds

    def __iter__(self) -> Iterator[Batch]:
        plan, rounds = self.division.plan, self.division.rounds
        stop = min(plan.epoch_end(self.batch // rounds), plan.total_steps) * rounds
        batches = (self._next_batch() for _ in range(self.batch, stop))
        yield from counted_by_update(batches, self._batches_per_update)

    def start(self) -> None:
        """Start to read in the background, so that decoding runs while the model is built."""
        if self._ready is None:
            # The next update's batches are read while those of this one are trained on.
            self._ready = Queue(maxsize=max(self._batches_per_update, self._prefetch))
            Thread(target=self._read, args=(self._ready,), name="stream-reader", daemon=True).start()

    def close(self) -> None:
        """Stop the reader; batches that it has read are lost."""
        self._closed.set()

    def _next_batch(self) -> Batch:
        self.start()
        assert self._ready is not None
        positions, batch = self._ready.get()
        if isinstance(batch, Exception):
            raise batch
        expected = self.division.rows(self.batch, self.rank)
        if positions != expected:
            raise TrainingError(
                f"the stream gave rank {self.rank} the rows {positions} at its batch {self.batch} instead of "
                f"{expected}: the recorded position of the run would be wrong"
            )
        self.batch += 1
        return batch

    def _read(self, ready: Queue[Item]) -> None:
        """Put (rows, batch) in order, then ([], None) or ([], error), for `_next_batch` in another thread."""
        options: dict[str, Any] = {"batch_size": self.division.plan.batch_size, "batch_format": "numpy"}
        try:
            for rows in self._open_shard().iter_batches(prefetch_batches=self._prefetch, **options):
                self._put(ready, _batch_of(rows))
                if self._closed.is_set():
                    return
            self._put(ready, ([], None))
        except Exception as error:  # raised again where the batch is asked for
            self._put(ready, ([], error))

    def _put(self, ready: Queue[Item], item: Item) -> None:
        # With a timeout: nobody empties the queue of a closed loader, and its thread must end.
        while not self._closed.is_set():
            try:
                return ready.put(item, timeout=1.0)
            except Full:
                continue


def _batch_of(rows: Mapping[str, np.ndarray]) -> Item:
    positions = rows[POSITION].tolist()
    try:
        return positions, collate_fn(unpack_clips(rows))
    except Sam2vtError as error:
        return positions, error
