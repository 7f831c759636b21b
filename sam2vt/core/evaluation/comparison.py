"""Compare two models on the same videos: the difference of their scores, and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sam2vt.core.evaluation.jf import BY_OBJECT, METRICS, ObjectScore

RESAMPLES = 2_000
LEVEL = 0.95


class Difference(NamedTuple):
    """The mean difference of a metric over objects, and its interval; None if there is one video."""

    mean: float
    low: float | None
    high: float | None
    num_objects: int
    num_videos: int

    def __str__(self) -> str:
        if self.low is None:
            return f"{self.mean:+.3f} ({'one video' if self.num_videos else 'nothing scored'}: no interval)"
        return (
            f"{self.mean:+.3f}, {LEVEL:.0%} interval {self.low:+.3f} to {self.high:+.3f} "
            f"({self.num_videos} videos)"
        )


def paired_differences(
    scores: Sequence[ObjectScore], others: Sequence[ObjectScore], seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Difference]:
    """Return the mean of `scores` minus `others` over the objects that both score, by metric.

    The interval is a paired bootstrap over videos, drawn with all their objects, because the objects of a
    video are scored on the same frames. It depends only on the scores and `seed`.
    """
    pairs = {BY_OBJECT(each): each for each in others if each.num_frames}
    by_video: dict[str, list[list[float]]] = {}
    for own in sorted(scores, key=BY_OBJECT):
        other = pairs.get(BY_OBJECT(own))
        if own.num_frames and other is not None:
            row = [own.values[name] - other.values[name] for name in METRICS]
            by_video.setdefault(own.video_id, []).append(row)
    sums = np.array([np.sum(rows, axis=0) for rows in by_video.values()]).reshape(-1, len(METRICS))
    sizes = np.array([len(rows) for rows in by_video.values()])
    means = sums.sum(0) / sizes.sum() if len(sums) else np.full(len(METRICS), np.nan)
    bounds = np.full((2, len(METRICS)), None)
    if len(sums) > 1:
        bounds = _bounds(sums, sizes, np.random.default_rng(seed), resamples).astype(object)
    counts = int(sizes.sum()), len(by_video)
    return {
        name: Difference(float(mean), low, high, *counts)
        for name, mean, low, high in zip(METRICS, means, *bounds)
    }


def _bounds(sums: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Return the interval [2, metrics] of the mean over objects, of sums [videos, metrics] and sizes."""
    drawn = (rng.integers(len(sums), size=len(sums)) for _ in range(resamples))
    means = [sums[each].sum(0) / sizes[each].sum() for each in drawn]
    return np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
