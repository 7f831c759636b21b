"""Scores as an aligned text table and as CSV: a row per object, a mean per video, the mean over all."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from sam2vt.core.evaluation.jf import BY_OBJECT, METRICS, UNSCORED, ObjectScore, mean_score
from sam2vt.core.storage.disk import write_whole

COLUMNS = ("video", "object", "frames", *METRICS)
BASELINE_COLUMNS = tuple(f"{name}_hold_first" for name in METRICS)


class Row(NamedTuple):
    """A row of the table."""

    video: str
    object: str  # an object's id, or "mean"
    num_frames: int | None  # scored frames; None in means
    values: tuple[float, ...]  # of METRICS, then those of the baseline
    name: str = ""  # of the object


def score_rows(scores: Sequence[ObjectScore], baseline: Sequence[ObjectScore] = ()) -> list[Row]:
    """Return a row per object, a mean per video with several objects, and last the mean over all.

    Means are over objects, each counting the same; an object without a scored frame has NaN and counts in
    none. `baseline` holds the scores to compare with, such as `hold_first_mask`'s.
    """
    held = {BY_OBJECT(row): row for row in baseline}

    def values(own: Mapping[str, float], other: Mapping[str, float]) -> tuple[float, ...]:
        return tuple(each[name] for each in ([own, other] if baseline else [own]) for name in METRICS)

    def mean(name: str, scores: Sequence[ObjectScore], others: Sequence[ObjectScore]) -> Row:
        return Row(name, "mean", None, values(mean_score(scores).values, mean_score(others).values))

    rows: list[Row] = []
    ordered = sorted(scores, key=BY_OBJECT)
    for video_id, group in groupby(ordered, key=attrgetter("video_id")):
        of_video = list(group)
        for row in of_video:
            other = held[BY_OBJECT(row)].values if BY_OBJECT(row) in held else UNSCORED
            numbers = values(row.values, other)
            rows.append(Row(video_id, str(row.object_id), row.num_frames, numbers, row.name))
        if len(of_video) > 1:
            rows.append(
                mean(video_id, of_video, [held[key] for key in map(BY_OBJECT, of_video) if key in held])
            )
    return [*rows, mean("all", ordered, baseline)]


def format_scores(scores: Sequence[ObjectScore], baseline: Sequence[ObjectScore] = ()) -> str:
    """Return the rows of `score_rows` as an aligned table with 3 decimals; "-" where nothing was scored."""
    rows = score_rows(scores, baseline)
    cells = [_header(rows, baseline), *([*_names(row), *map(_shown, row.values), row.name] for row in rows)]
    cells = [line[: len(cells[0])] for line in cells]
    widths = [max(map(len, column)) for column in zip(*cells)]
    # Names to the left; numbers to the right, so that their digits are below each other.
    lines = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in cells]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def write_scores_csv(
    path: str | Path, scores: Sequence[ObjectScore], baseline: Sequence[ObjectScore] = ()
) -> None:
    """Write the rows of `score_rows` as CSV with all digits; cells are empty where nothing was scored."""
    rows = score_rows(scores, baseline)
    header = _header(rows, baseline)
    with write_whole(path) as written, written.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row in rows:
            values = ("" if math.isnan(value) else repr(float(value)) for value in row.values)
            writer.writerow([*_names(row), *values, row.name][: len(header)])


def _header(rows: Sequence[Row], baseline: Sequence[ObjectScore]) -> list[str]:
    """Return the columns; that of the objects' names, the last, is there where one has a name."""
    names = ["name"] if any(row.name for row in rows) else []
    return [*COLUMNS, *(BASELINE_COLUMNS if baseline else ()), *names]


def _names(row: Row) -> list[str]:
    return [row.video, row.object, "" if row.num_frames is None else str(row.num_frames)]


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
