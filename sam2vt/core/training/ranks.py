"""Share among the ranks of a run: gather objects, and divide batches so that no rank waits forever."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import lightning as L
import torch.distributed as dist
from torch import Tensor

Item = TypeVar("Item")


def gather_objects(item: Item) -> list[Item]:
    """Return the item of every rank, in the order of ranks; every rank must take part."""
    if not (dist.is_available() and dist.is_initialized()):
        return [item]
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, item)
    return parts


def reduced(trainer: L.Trainer, value: Tensor, operation: str) -> Tensor:
    """Return the "mean" or "max" of a tensor over the ranks; every rank must take part."""
    # A single rank is spared the strategy's copy of the tensor.
    return trainer.strategy.reduce(value, reduce_op=operation) if trainer.world_size > 1 else value


class RankBatches(Generic[Item]):
    """Batch sampler of one rank: every world_size-th batch of the items, each item exactly once.

    Each rank gets the same number, because a wrapped model synchronises at every step. If batches cannot be
    divided equally, the last ones are empty lists. `make` turns each item into the sample to load.
    """

    def __init__(
        self,
        items: Sequence[Any],
        batch_size: int,
        rank: int,
        world_size: int,
        make: Callable[[Any], Item] = lambda item: item,
    ) -> None:
        self.make = make
        every = batch_size * world_size
        starts = range(rank * batch_size, len(items), every)
        self.batches = [items[start : start + batch_size] for start in starts]
        self.batches += [()] * (-(-len(items) // every) - len(starts))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Item]]:
        return ([self.make(item) for item in batch] for batch in self.batches)
