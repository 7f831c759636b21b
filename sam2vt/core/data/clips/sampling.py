"""Order clips as one endless sequence of draws, divided into epochs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from sam2vt.core.types import SampleKey
from sam2vt.errors import ConfigError

_SHUFFLE_STREAM = 1  # keeps the order's random numbers apart from those of the clips


def sample_at(position: int, num_videos: int, clips_per_video: int, seed: int, shuffle: bool) -> SampleKey:
    """Return the draw at a position counted over all epochs; an epoch is num_videos x clips_per_video
    long.
    """
    epoch, place = divmod(position, num_videos * clips_per_video)
    # In order, each video comes once before any comes again.
    if not shuffle:
        return SampleKey(epoch, place)
    return SampleKey(epoch, int(_permutation(num_videos * clips_per_video, seed, epoch)[place]))


def usable_clips(num_videos: int, clips_per_video: int, world_size: int, batch_size: int) -> int:
    """Return how many clips of an epoch are visited: what does not divide by world_size x batch_size is
    dropped.

    Clips at the end of the epoch are dropped, never repeated, so every rank gets the same number of full
    batches. Raises ConfigError if an epoch has not even one batch for each rank.
    """
    assert num_videos > 0
    total, together = num_videos * clips_per_video, world_size * batch_size
    if total < together:
        raise ConfigError(
            f"an epoch has {num_videos} videos x {clips_per_video} clips_per_video = {total} clips, fewer "
            f"than {world_size} ranks x batch_size {batch_size} = {together}: "
            f"set clips_per_video to at least {-(-together // num_videos)}"
        )
    return total - total % together


def limited_batches(field: str, num_batches: int, limit: int | float, of: str) -> int:
    """Return how many of `num_batches` remain under a limit, a count or a share (float); `of` names them.

    Raises ConfigError if none is left, naming the smallest share that leaves one.
    """
    used = min(num_batches, limit) if isinstance(limit, int) else int(num_batches * limit)
    if used == 0:
        raise ConfigError(
            f"{field}={limit}: leaves {limit} x {num_batches} = {num_batches * limit:g}, less than one, of "
            f"{of}; give a share of at least 1/{num_batches}, or 1 (an integer) for a single batch"
        )
    return int(used)


@dataclass(eq=False)
class ClipSampler:
    """Yields an epoch's draws of one rank: a `sampler` for torch's DataLoader.

    The world_size x batch_size clips of a step are adjacent in the epoch's order; rank r takes the r-th batch
    of them. Each pass is the next epoch, from 0 on, unless `epoch` or `set_epoch` fixes it. Each key contains
    the epoch, so persistent workers see it. With shuffle, the order is a permutation seeded by (seed, epoch).
    """

    num_videos: int
    clips_per_video: int
    seed: int
    shuffle: bool
    rank: int = 0
    world_size: int = 1
    epoch: int | None = None  # None: that of the pass
    batch_size: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ConfigError(f"rank={self.rank}: must be at least 0 and below world_size={self.world_size}")
        self._passes = 0
        self._usable = usable_clips(self.num_videos, self.clips_per_video, self.world_size, self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of all further passes."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._usable // self.world_size

    def __iter__(self) -> Iterator[SampleKey]:
        if self.epoch is not None:
            return self._keys(self.epoch)
        self._passes += 1
        return self._keys(self._passes - 1)

    def _keys(self, epoch: int) -> Iterator[SampleKey]:
        first = epoch * self.num_videos * self.clips_per_video
        step = self.world_size * self.batch_size
        for start in range(first + self.rank * self.batch_size, first + self._usable, step):
            for position in range(start, start + self.batch_size):
                yield sample_at(position, self.num_videos, self.clips_per_video, self.seed, self.shuffle)


@lru_cache(maxsize=2)  # at an epoch's end the next one's is asked for
def _permutation(length: int, seed: int, epoch: int) -> np.ndarray:
    sequence = np.random.SeedSequence([seed, epoch], spawn_key=(_SHUFFLE_STREAM,))
    order = np.random.default_rng(sequence).permutation(length)
    # Half the memory: an epoch may have 2^27 clips.
    return order.astype(np.uint32) if length < 2**32 else order
