"""What a validation collects on each rank, and how the ranks' parts become one result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import torch.distributed as dist
from torch.utils.data import Dataset

from sam2vt.core.evaluation.jf import ObjectScore
from sam2vt.core.training.loss import COMPONENTS
from sam2vt.core.types import VideoRecord

Item = TypeVar("Item")


class WholeVideo:
    """A record on its way through a data loader; Lightning looks into dataclasses, not into this."""

    def __init__(self, record: VideoRecord) -> None:
        self.record = record


class WholeVideos(Dataset[WholeVideo]):
    """The records of a validation set, a whole video an item."""

    def __init__(self, records: Sequence[VideoRecord]) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> WholeVideo:
        return WholeVideo(self.records[index])


class RankBatches(Generic[Item]):
    """Batch sampler: every world_size-th batch of the items, none twice and none left out.

    Each rank gets equally many, because a wrapped model synchronises at every step: where batches do
    not divide, the last ones are empty lists. `make` turns each item into what is asked for.
    """

    def __init__(
        self,
        items: Sequence[Any],
        batch_size: int,
        rank: int,
        world_size: int,
        make: Callable[[Any], Item] | None = None,
    ) -> None:
        self.items, self.make = items, make
        self.starts = range(rank * batch_size, len(items), batch_size * world_size)
        self.batch_size, self.length = batch_size, -(-len(items) // (batch_size * world_size))

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[Item]]:
        for start in self.starts:
            batch = self.items[start : start + self.batch_size]
            yield list(batch) if self.make is None else [self.make(each) for each in batch]
        if len(self.starts) < self.length:
            yield []


class LossRow(NamedTuple):
    """A validation batch's loss components, the total left out."""

    batch: int  # number of the batch over all ranks
    counts: dict[str, int]  # what the components' means divided by, see entries.count_entries
    components: dict[str, float]


@dataclass
class ValidationRows:
    """Rows of one validation: of this rank while it runs, of all ranks after `gathered`."""

    losses: list[LossRow] = field(default_factory=list)
    scores: list[ObjectScore] = field(default_factory=list)
    hold_first: list[ObjectScore] = field(default_factory=list)

    def gathered(self) -> ValidationRows:
        """The rows of all ranks in the order of a single process; every rank must take part."""
        parts = _all_gather(self)
        return ValidationRows(
            losses=sorted((row for part in parts for row in part.losses), key=lambda row: row.batch),
            scores=sorted_scores(row for part in parts for row in part.scores),
            hold_first=sorted_scores(row for part in parts for row in part.hold_first),
        )

    def mean_losses(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Components over all batches as over one: each weighted by what its own means divided by.

        `total` is their sum with these weights. {} where no entry counted.
        """
        if not any(row.counts["valid"] for row in self.losses):
            return {}
        names = sorted({name for row in self.losses for name in row.components})
        means = {name: self._mean(name) for name in names}
        return {**means, "total": sum(weights[name] * mean for name, mean in means.items())}

    def _mean(self, component: str) -> float:
        count = COMPONENTS[component]
        total = sum(row.counts[count] for row in self.losses)
        parts = sum(row.counts[count] * row.components.get(component, 0.0) for row in self.losses)
        return parts / max(total, 1)


def sorted_scores(rows: Iterable[ObjectScore]) -> list[ObjectScore]:
    return sorted(rows, key=lambda row: (row.video_id, row.object_id))


def _all_gather(item: Item) -> list[Item]:
    if not (dist.is_available() and dist.is_initialized()):
        return [item]
    parts: list[Item | None] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, item)
    return [part for part in parts if part is not None]
