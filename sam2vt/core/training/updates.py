"""Count the batches of one optimizer step together, so that they act like one large batch.

The loss is a mean over entries. In a mean of batch means, an object would weigh more if its batch had fewer
objects. So each batch carries the numbers of its whole update, and its sums are divided by them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from math import inf, nan

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from sam2vt.core.model.tracking.prompt_inputs import predicted_entries
from sam2vt.core.training.loss_terms.entries import count_entries
from sam2vt.core.types import Batch

RECENT = 50  # updates whose mean loss is shown: one update's depends on its few clips


def counted_by_update(batches: Iterator[Batch], size: int, left: float = inf) -> Iterator[Batch]:
    """Yield the batches with the numbers of their update; each update has `size` batches, from its start on.

    Only the next `left` batches are trained on; the last update gets the remainder. The batches of one update
    are in memory at once. With a size of 1 they do not change.
    """
    if size == 1:
        yield from batches
        return
    while update := list(islice(batches, int(min(size, left)))):
        left -= len(update)
        yield from counted_together(update)


def counted_together(batches: Sequence[Batch]) -> Sequence[Batch]:
    """Return the batches of one update of this rank; the `update` of each has their number and entries."""
    numbers: Counter[str] = Counter()
    for batch in batches:
        scored = predicted_entries(batch["prompts"], batch["valid_masks"].shape)
        numbers.update(count_entries(batch["masks"], batch["valid_masks"], scored))
    return [Batch(**{**batch, "update": {**numbers, "batches": len(batches)}}) for batch in batches]


class UpdateLoader:
    """The batches of a loader, counted by update. `left` says how many are still trained on in this epoch."""

    def __init__(self, loader: DataLoader, size: int, left: Callable[[], float]) -> None:
        self.loader, self.size, self.left = loader, size, left

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        # A generator asks for `left` with its first batch: only then does Lightning know how many there are.
        yield from counted_by_update(iter(self.loader), self.size, self.left())


class UpdateMeans:
    """Means of the loss's components over the batches of the current update, and of the last losses."""

    def __init__(self) -> None:
        self._parts: list[dict[str, Tensor]] = []
        self._is_complete = False
        self._losses: deque[Tensor] = deque(maxlen=RECENT)  # on the device: nobody waits for them

    def add(self, components: dict[str, Tensor], completes: bool) -> None:
        """Add a batch; it is the first of its update if the one before completed an update."""
        self._parts = [*([] if self._is_complete else self._parts), components]
        self._is_complete = completes
        if completes:
            self._losses.append(self.values["total"])

    @property
    def recent_loss(self) -> float:
        """The loss for people to read, a mean over the last updates; reading it waits for the device."""
        return float(torch.stack([*self._losses]).mean()) if self._losses else nan

    @property
    def values(self) -> dict[str, Tensor]:
        """The mean of each component, a scalar."""
        first, *others = self._parts
        if not others:
            return first
        return {name: torch.stack([part[name] for part in self._parts]).mean(0) for name in first}
