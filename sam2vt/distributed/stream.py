"""A rank's batches out of Ray Data, byte for byte those of the local loader.

What a row holds depends on its number alone. Blocks of exactly one batch in preserved order make rank
and step follow from the number too, and the reader checks that they do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
import ray.data

from sam2vt.core.data.collate import collate_fn
from sam2vt.core.types import Batch
from sam2vt.distributed.plan import Division
from sam2vt.distributed.wire import POSITION, unpack_clips
from sam2vt.errors import TrainingError

Rows = dict[str, np.ndarray]


class StreamLoader:
    """A rank's batches with the length of an epoch, over one reader of all epochs.

    Lightning asks for an iterator each epoch; each goes on where the last one stopped, and after a
    resume the first one yields what was left of its epoch. Lightning's limit on training batches is
    part of the plan already: an iterator ends where the next epoch's rows begin.
    """

    def __init__(
        self,
        open_shard: Callable[[], ray.data.DataIterator],
        division: Division,
        rank: int,
        *,
        first_step: int = 0,
        prefetch: int = 2,
    ) -> None:
        self.division, self.rank = division, rank
        self.batch = first_step * division.rounds  # the number of the next one, from the run's start
        self.seconds_waited = 0.0
        self._open_shard, self._prefetch = open_shard, prefetch
        self._ready: Queue[Rows | Exception | None] | None = None

    def __len__(self) -> int:
        return self.division.plan.steps_per_epoch * self.division.rounds

    def __iter__(self) -> Iterator[Batch]:
        plan, rounds = self.division.plan, self.division.rounds
        stop = min(plan.epoch_end(self.batch // rounds), plan.total_steps) * rounds
        while self.batch < stop:
            yield self._next_batch()

    def start(self) -> None:
        """Begin to read in the background, so that decoding runs while the model is being built."""
        if self._ready is None:
            self._ready = Queue(maxsize=max(1, self._prefetch))
            Thread(target=self._read, args=(self._ready,), name="stream-reader", daemon=True).start()

    def _next_batch(self) -> Batch:
        self.start()
        assert self._ready is not None
        began = time.perf_counter()
        rows: Any = self._ready.get()
        self.seconds_waited += time.perf_counter() - began
        if isinstance(rows, Exception):
            raise rows
        self._check([] if rows is None else rows[POSITION].tolist())
        batch = collate_fn(unpack_clips(rows))
        if (scale := self.division.loss_scale(self.batch)) != 1.0:
            batch["loss_scale"] = scale
        self.batch += 1
        return batch

    def _check(self, got: Sequence[int]) -> None:
        expected = self.division.rows(self.batch, self.rank)
        if got != expected:
            raise TrainingError(
                f"the stream gave rank {self.rank} the rows {got} at its batch {self.batch} instead of "
                f"{expected}: they would not be the clips that the run's position stands for"
            )

    def _read(self, ready: Queue[Any]) -> None:
        options: dict[str, Any] = {"batch_size": self.division.plan.batch_size, "batch_format": "numpy"}
        try:
            for rows in self._open_shard().iter_batches(prefetch_batches=self._prefetch, **options):
                ready.put(rows)
            ready.put(None)
        except Exception as error:  # raised again where the batch is asked for
            ready.put(error)
