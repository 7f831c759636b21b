"""Scores as an aligned text table and as CSV: a row per object, a mean per video, the mean over all."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from sam2vt.core.evaluation.jf import METRICS, UNSCORED, ObjectScore, mean_score

COLUMNS = ("video", "object", "frames", *METRICS)
BASELINE_COLUMNS = tuple(f"{name}_hold_first" for name in METRICS)


class Row(NamedTuple):
    """A row of the table."""

    video: str
    object: str  # an object's id, or "mean"
    num_frames: int | None  # scored frames; None in means
    values: tuple[float, ...]  # of METRICS, then those of the baseline


def score_rows(scores: Sequence[ObjectScore], baseline: Sequence[ObjectScore] = ()) -> list[Row]:
    """Return a row per object, a mean per video with several objects, and last the mean over all.

    Means are over objects, each counting the same; an object without a scored frame has NaN and counts in
    none. `baseline` holds the scores to compare with, such as `hold_first_mask`'s.
    """
    held = {(row.video_id, row.object_id): row for row in baseline}
    rows: list[Row] = []
    ordered = sorted(scores, key=lambda row: (row.video_id, row.object_id))
    for video_id, group in groupby(ordered, key=lambda row: row.video_id):
        of_video = list(group)
        own = [held[key] for row in of_video if (key := (row.video_id, row.object_id)) in held]
        for row in of_video:
            other = held.get((row.video_id, row.object_id))
            values = _values(row.values) + (_values(other.values if other else UNSCORED) if baseline else ())
            rows.append(Row(video_id, str(row.object_id), row.num_frames, values))
        if len(of_video) > 1:
            rows.append(Row(video_id, "mean", None, _means(of_video, own, bool(baseline))))
    rows.append(Row("all", "mean", None, _means(ordered, baseline, bool(baseline))))
    return rows


def format_scores(scores: Sequence[ObjectScore], baseline: Sequence[ObjectScore] = ()) -> str:
    """Return the rows of `score_rows` as an aligned table with 3 decimals; "-" where nothing was scored."""
    header = COLUMNS + (BASELINE_COLUMNS if baseline else ())
    rows = score_rows(scores, baseline)
    cells = [header, *([*_names(row), *(_shown(value) for value in row.values)] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    lines = list(_aligned(cells, widths))
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def write_scores_csv(
    path: str | Path, scores: Sequence[ObjectScore], baseline: Sequence[ObjectScore] = ()
) -> None:
    """Write the rows of `score_rows` as CSV with all digits; cells are empty where nothing was scored."""
    header = COLUMNS + (BASELINE_COLUMNS if baseline else ())
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row in score_rows(scores, baseline):
            values = ("" if math.isnan(value) else repr(float(value)) for value in row.values)
            writer.writerow([*_names(row), *values])


def _values(values: Mapping[str, float]) -> tuple[float, ...]:
    return tuple(values[name] for name in METRICS)


def _means(
    scores: Sequence[ObjectScore], baseline: Sequence[ObjectScore], with_baseline: bool
) -> tuple[float, ...]:
    means = _values(mean_score(scores).values)
    return means + (_values(mean_score(baseline).values) if with_baseline else ())


def _names(row: Row) -> list[str]:
    return [row.video, row.object, "" if row.num_frames is None else str(row.num_frames)]


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _aligned(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    for line in cells:
        parts = [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths))]
        yield "  ".join(parts)
