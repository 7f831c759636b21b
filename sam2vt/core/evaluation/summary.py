"""Summarise scores per class and over all, their spread, and their difference to another model's."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sam2vt.core.evaluation.identity import presence_accuracy
from sam2vt.core.evaluation.jf import BY_OBJECT, METRICS, ObjectScore, mean_score
from sam2vt.core.evaluation.tables import aligned, cells, in_width, means_of, shown_columns
from sam2vt.core.storage.disk import write_whole

UNNAMED = "(no name)"
RESAMPLES = 2_000
LEVEL = 0.95

Scores = Sequence[ObjectScore]


def by_class(scores: Scores) -> dict[str, list[ObjectScore]]:
    """Return the scored objects by their names, in order; {} if none has a name."""
    scored = [each for each in scores if each.num_frames]
    if not any(each.name for each in scored):
        return {}
    names = sorted({each.name for each in scored}, key=lambda name: (not name, name))
    return {name or UNNAMED: [each for each in scored if each.name == name] for name in names}


def deviation(values: Iterable[float]) -> float:
    """Return the standard deviation of a sample; NaN for fewer than two values, not counting NaN."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.stdev(known) if len(known) > 1 else math.nan


def by_video(scores: Scores) -> dict[str, list[ObjectScore]]:
    """Return the objects of each video, in order."""
    videos: dict[str, list[ObjectScore]] = {}
    for each in sorted(scores, key=BY_OBJECT):
        videos.setdefault(each.video_id, []).append(each)
    return videos


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


def format_summary(
    scores: Scores, baseline: Scores = (), others: Scores = (), against: str = "", seed: int = 0
) -> str:
    """Return the classes as a table, if objects have names, then the spread and the difference.

    `against` names the model of `others`.
    """
    means = means_of(scores, baseline, others)
    shown = shown_columns(means([]))
    lines = []
    for name, group in by_class(scores).items():
        values = cells(means([BY_OBJECT(each) for each in group]), shown)
        spread = deviation(each.values["J&F"] for each in group)
        lines.append([name, str(len(group)), *values, "-" if math.isnan(spread) else f"{spread:.3f}"])
    text = aligned(["class", "objects", *METRICS, *shown, "sd"], lines) if lines else []
    if lines:
        text += ["sd: standard deviation of J&F over the class's objects", ""]
    objects = [each.values["J&F"] for each in scores if each.num_frames]
    videos = [mean_score(group).values["J&F"] for group in by_video(scores).values()]
    text.append(f"standard deviation of J&F: {_spread(objects, 'object')}, {_spread(videos, 'video')}")
    if returned := [each.presence for each in scores if each.presence.returned]:
        frames = sum(each.num_frames for each in returned)
        share = f"{presence_accuracy(returned):.1%} of {frames} frames right"
        text.append(f"presence: {share}, of {len(returned)} objects that leave and return")
    if others:
        text += in_width("J&F minus that of ", against, str(paired_differences(scores, others, seed)["J&F"]))
    return "\n".join(text)


def write_scores_json(
    path: str | Path,
    header: Mapping[str, Any],
    scores: Scores,
    baseline: Scores = (),
    others: Scores = (),
    seed: int = 0,
) -> None:
    """Write everything that was scored: per object, per video, per class, over all, and the difference.

    `header` comes first. Missing scores are null. "sd" is the sample's standard deviation over objects; for
    the total there is also one over videos.
    """
    means = means_of(scores, baseline, others)

    def group(members: Iterable[ObjectScore]) -> dict[str, Any]:
        scored = [each for each in members if each.num_frames]
        spread = {name: deviation(each.values[name] for each in scored) for name in METRICS}
        return {"objects": len(scored), **means([BY_OBJECT(each) for each in scored]), "sd": spread}

    ordered, videos = sorted(scores, key=BY_OBJECT), by_video(scores)
    content = {**header}
    content["objects"] = [
        {"video": each.video_id, "object": each.object_id, "name": each.name, "frames": each.num_frames}
        | means([BY_OBJECT(each)])
        for each in ordered
    ]
    content["videos"] = [{"video": video, **group(members)} for video, members in videos.items()]
    content["classes"] = [{"name": name, **group(members)} for name, members in by_class(scores).items()]
    of_videos = [mean_score(members).values for members in videos.values()]
    over_videos = {name: deviation(values[name] for values in of_videos) for name in METRICS}
    content["all"] = {**group(ordered), "sd_over_videos": over_videos}
    if others:
        found = paired_differences(scores, others, seed)
        content["difference"] = {name: each._asdict() for name, each in found.items()}
        content["difference"]["interval"] = (
            f"{LEVEL:.0%}, paired bootstrap over videos, {RESAMPLES} resamples"
        )
    with write_whole(path) as written:
        written.write_text(json.dumps(_without_nan(content), indent=1, ensure_ascii=False), encoding="utf-8")


def _bounds(sums: np.ndarray, sizes: np.ndarray, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Return the interval [2, metrics] of the mean over objects, of sums [videos, metrics] and sizes."""
    drawn = (rng.integers(len(sums), size=len(sums)) for _ in range(resamples))
    means = [sums[each].sum(0) / sizes[each].sum() for each in drawn]
    return np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def _spread(values: Sequence[float], what: str) -> str:
    known = [value for value in values if not math.isnan(value)]
    if len(known) < 2:
        return f"none over {len(known)} {what}{'' if len(known) == 1 else 's'}"
    return f"{deviation(known):.3f} over {len(known)} {what}s"


def _without_nan(value: Any) -> Any:
    """Return nested containers with None instead of NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
