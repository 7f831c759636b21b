"""Write scores as an aligned text table and as CSV: a row per object, a mean per video, the total mean."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from sam2vt.core.evaluation.identity import (
    PRESENCE,
    SWAP_RATE,
    SWAP_RATE_MEANING,
    presence_accuracy,
    swap_rate,
)
from sam2vt.core.evaluation.jf import BY_OBJECT, METRICS, ObjectScore, mean_score
from sam2vt.core.storage.disk import write_whole

COLUMNS = ("video", "object", "frames", *METRICS)
# What the names of further columns end with: of the first mask repeated, of another model, and what it lacks.
HELD, AGAINST, DIFFERENCE = "_hold_first", "_against", "_difference"
# Further columns of the text, which has no room for all: heading -> (column, meaning).
SHOWN = {
    "held": (f"J&F{HELD}", "J&F of each object's first mask, repeated"),
    "other": (f"J&F{AGAINST}", "J&F of the other checkpoint"),
    "diff": (f"J&F{DIFFERENCE}", "J&F minus other"),
    "swaps": (SWAP_RATE, SWAP_RATE_MEANING),
}
WIDTH = 80
_LEAST = {"video": 8, "name": 6, "class": 8}  # columns that give way, and the width that they keep

Key = tuple[str, int]  # a video's id and an object's
Means = Callable[[Collection[Key]], dict[str, float]]


class Row(NamedTuple):
    """A row of the table."""

    video: str
    object: str  # an object's id, or "mean"
    num_frames: int | None  # scored frames; None in means
    values: dict[str, float]  # by column
    name: str = ""  # of the object


def means_of(
    scores: Sequence[ObjectScore], baseline: Sequence[ObjectScore] = (), others: Sequence[ObjectScore] = ()
) -> Means:
    """Return a function from objects to the means of all columns over scored objects; NaN if there are none.

    `baseline` holds the scores of `hold_first_mask`, `others` those of another model. The swap rate is there
    where an object could be mistaken for another one, the presence accuracy where an object returns.
    """
    sides = {"": scores, HELD: baseline, AGAINST: others}
    found = {
        end: {BY_OBJECT(each): each for each in side} for end, side in sides.items() if side or end == ""
    }

    contested = any(each.swaps.contested for each in scores)
    returned = any(each.presence.returned for each in scores)

    def means(keys: Collection[Key]) -> dict[str, float]:
        values: dict[str, float] = {}
        for end, rows in found.items():
            chosen = [rows[key] for key in keys if key in rows]
            mean = mean_score(chosen)
            values |= {f"{name}{end}": mean.values[name] for name in METRICS}
            if contested:
                values[f"{SWAP_RATE}{end}"] = swap_rate(each.swaps for each in chosen)
            if returned:
                values[f"{PRESENCE}{end}"] = presence_accuracy(each.presence for each in chosen)
        if others:
            values |= {f"{name}{DIFFERENCE}": values[name] - values[f"{name}{AGAINST}"] for name in METRICS}
        return values

    return means


def score_rows(
    scores: Sequence[ObjectScore], baseline: Sequence[ObjectScore] = (), others: Sequence[ObjectScore] = ()
) -> list[Row]:
    """Return a row per object, a mean per video with several objects, and last the mean over all.

    Means are over objects with equal weights. An object without a scored frame has NaN and counts in no mean.
    Further columns are those of `means_of`.
    """
    means, ordered = means_of(scores, baseline, others), sorted(scores, key=BY_OBJECT)
    rows: list[Row] = []
    for video_id, group in groupby(ordered, key=lambda each: each.video_id):
        of_video = list(group)
        for each in of_video:
            values = means([BY_OBJECT(each)])
            rows.append(Row(video_id, str(each.object_id), each.num_frames, values, each.name))
        if len(of_video) > 1:
            rows.append(Row(video_id, "mean", None, means([BY_OBJECT(each) for each in of_video])))
    return [*rows, Row("all", "mean", None, means([BY_OBJECT(each) for each in ordered]))]


def format_scores(
    scores: Sequence[ObjectScore], baseline: Sequence[ObjectScore] = (), others: Sequence[ObjectScore] = ()
) -> str:
    """Return the rows of `score_rows` as a table of at most 80 columns with 3 decimals; "-" for unscored.

    For the baseline and the other model it shows J&F; a line below explains their columns.
    """
    rows = score_rows(scores, baseline, others)
    names = ["name"] if any(row.name for row in rows) else []
    shown = shown_columns(rows[-1].values)
    header = [*COLUMNS[:2], *names, *COLUMNS[2:], *shown]
    lines = []
    for row in rows:
        frames = "" if row.num_frames is None else str(row.num_frames)
        own_name = [row.name] if names else []
        lines.append([row.video, row.object, *own_name, frames, *cells(row.values, shown)])
    legend = [f"{heading}: {SHOWN[heading][1]}" for heading in shown]
    return "\n".join([*aligned(header, lines, total=True), *legend])


def shown_columns(values: Mapping[str, float]) -> list[str]:
    """Return the headings of `SHOWN` whose columns exist."""
    return [heading for heading, (column, _) in SHOWN.items() if column in values]


def cells(values: Mapping[str, float], shown: Sequence[str]) -> list[str]:
    """Return the metrics and the `shown` columns as text, differences with their sign."""
    columns = [*METRICS, *(SHOWN[heading][0] for heading in shown)]
    signs = ["+" if column.endswith(DIFFERENCE) else "" for column in columns]
    numbers = [values[column] for column in columns]
    return ["-" if math.isnan(number) else f"{number:{sign}.3f}" for number, sign in zip(numbers, signs)]


def aligned(header: Sequence[str], lines: Sequence[Sequence[str]], total: bool = False) -> list[str]:
    """Return a table as lines of text, with a rule above the last if that is the `total`.

    Names that do not fit are shortened in the middle, since names in a dataset often begin in the same way.
    """
    widths = [max(map(len, column)) for column in zip(header, *lines)]
    for heading, least in _LEAST.items():
        if heading in header:
            place, over = header.index(heading), sum(widths) + 2 * (len(widths) - 1) - WIDTH
            widths[place] = max(widths[place] - max(over, 0), min(widths[place], least))
    names = [heading in _LEAST for heading in header]
    # Names to the left; numbers to the right, so that their digits are below each other.
    text = [
        "  ".join(
            _shortened(cell, width).ljust(width) if is_name else cell.rjust(width)
            for cell, width, is_name in zip(line, widths, names)
        )
        for line in (header, *lines)
    ]
    rule = "-" * len(text[0])
    return [text[0], rule, *text[1:-1], *([rule] if total else []), text[-1]]


def write_scores_csv(
    path: str | Path,
    scores: Sequence[ObjectScore],
    baseline: Sequence[ObjectScore] = (),
    others: Sequence[ObjectScore] = (),
    labels: Mapping[str, str] | None = None,
) -> None:
    """Write the rows of `score_rows` as CSV with all digits; cells are empty if nothing was scored.

    `labels` are further columns, the same in every row.
    """
    rows = score_rows(scores, baseline, others)
    names = ["name"] if any(row.name for row in rows) else []
    labels = labels or {}
    with write_whole(path) as written, written.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS[:3], *rows[-1].values, *names, *labels])
        for row in rows:
            own: list[Any] = [row.video, row.object, "" if row.num_frames is None else row.num_frames]
            values = ("" if math.isnan(value) else repr(float(value)) for value in row.values.values())
            writer.writerow([*own, *values, *([row.name] if names else []), *labels.values()])


def in_width(before: str, name: str, told: str) -> list[str]:
    """Return what is told of a name as a line of at most 80 columns, or as two."""
    if len(before) + len(name) + len(told) + 2 <= WIDTH:
        return [f"{before}{name}: {told}"]
    return [f"{before}{_shortened(name, WIDTH - len(before) - 1)}:", f"  {told}"]


def _shortened(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    front = (width - 2 + 1) // 2
    return f"{text[:front]}..{text[len(text) - (width - 2 - front) :]}"
