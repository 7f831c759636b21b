"""Mix several datasets: an epoch visits each video at least once, and sets by their weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from sam2vt.configuration.mixture import Member
from sam2vt.core.data.records.table import RecordsByRow
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError

_MOST_VISITS = 1 << 27  # an epoch's order is held in memory


class Mixture(RecordsByRow):
    """The visits of an epoch, set after set; videos of a set come in turn, equally often or once more.

    Ids are `<set's name>/<id in its set>`; each record knows its set. Raises ConfigError if the weights
    make an epoch too long.
    """

    def __init__(self, members: Sequence[Member], parts: Sequence[Sequence[VideoRecord]]) -> None:
        self.members, self.parts = tuple(members), tuple(parts)
        self.visits = _visits(self.members, [len(part) for part in parts])
        self._ends = np.cumsum(self.visits)

    def over(self, change: Callable[[int, Sequence[VideoRecord]], Sequence[VideoRecord]]) -> Mixture:
        """Return the same mixture with other records: `change` gets the number of a set and its videos."""
        return Mixture(self.members, [change(place, part) for place, part in enumerate(self.parts)])

    def once(self) -> Mixture:
        """Return each video once, as validation sees them."""
        return Mixture([member._replace(weight=None, repeat=1.0) for member in self.members], self.parts)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __str__(self) -> str:
        total = len(self)
        return ", ".join(
            f"{member.name}: {len(part)} videos, {visits / total:.0%} of the clips"
            for member, part, visits in zip(self.members, self.parts, self.visits)
        )

    def _at(self, place: int) -> VideoRecord:
        number = int(np.searchsorted(self._ends, place, side="right"))
        visit = place - int(self._ends[number]) + self.visits[number]
        # Visits beyond whole rounds are spread over the set.
        record = self.parts[number][visit * len(self.parts[number]) // self.visits[number]]
        name, packed = f"{self.members[number].name}/{record.video_id}", record.packed
        packed = packed and replace(packed, video_id=packed.video_id or record.video_id)
        return replace(record, video_id=name, member=number, packed=packed)


def num_videos(records: Sequence[VideoRecord]) -> int:
    """Return the number of different videos."""
    return sum(map(len, records.parts)) if isinstance(records, Mixture) else len(records)


def _visits(members: Sequence[Member], sizes: Sequence[int]) -> list[int]:
    """Return the visits of each set per epoch; the set with the least weight per video is visited once."""
    weights = [member.weight for member in members]
    if None in weights:
        visits = [round(size * member.repeat) for size, member in zip(sizes, members)]
    else:
        # The set with the least weight per video sets the unit: it is visited once.
        rates = [weight / size for weight, size in zip(weights, sizes)]  # type: ignore[operator]
        visits = [max(size, round(weight / min(rates))) for weight, size in zip(weights, sizes)]  # type: ignore[operator]
    if sum(visits) > _MOST_VISITS:
        shares = ", ".join(f"{m.name}: {size} videos, weight {m.weight}" for m, size in zip(members, sizes))
        raise ConfigError(
            f"dataset.datasets: an epoch that visits every video would have {sum(visits)} visits ({shares}); "
            f"allowed are {_MOST_VISITS}: bring the weights nearer to the numbers of videos"
        )
    return visits
