"""The swap rate and the presence accuracy: which frames count, and which of them are swapped or right."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence

import numpy as np
import pytest

from sam2vt.core.evaluation.identity import Presence, Swaps, count_swap, presence_accuracy, swap_rate
from sam2vt.core.evaluation.jf import ObjectScore, VideoScore
from sam2vt.core.evaluation.summary import format_summary, write_scores_json
from sam2vt.core.evaluation.tables import format_scores, write_scores_csv

SIZE = (8, 12)


def columns(*shown: int) -> np.ndarray:
    """A mask of whole columns."""
    mask = np.zeros(SIZE, bool)
    mask[:, list(shown)] = True
    return mask


LEFT, RIGHT, NOTHING = columns(0, 1, 2), columns(9, 10, 11), columns()
BOTH = {1: LEFT, 2: RIGHT}


@pytest.mark.parametrize(
    ("pred", "truth", "expected"),
    [
        (LEFT, BOTH, Swaps(1, 0)),
        (RIGHT, BOTH, Swaps(1, 1)),
        (columns(1, 2, 10), BOTH, Swaps(1, 0)),  # more on its own
        (columns(2, 9, 10), BOTH, Swaps(1, 1)),
        (columns(2, 9), BOTH, Swaps(1, 0)),  # not more on the other
        (columns(5), BOTH, Swaps()),  # on neither
        (NOTHING, BOTH, Swaps()),
        (RIGHT, {1: LEFT}, Swaps()),  # one object alone
        (RIGHT, {1: NOTHING, 2: RIGHT}, Swaps()),  # the other is not visible
        (RIGHT, {2: RIGHT, 3: LEFT}, Swaps(1, 1)),  # its own is hidden, two others are visible
    ],
)
def test_frames_of_an_object(pred: np.ndarray, truth: dict[int, np.ndarray], expected: Swaps) -> None:
    assert count_swap(1, pred, truth) == expected


def test_void_pixels_count_for_nobody() -> None:
    assert count_swap(1, columns(2, 9, 10), BOTH, void=columns(9, 10)) == Swaps(1, 0)
    assert count_swap(1, RIGHT, BOTH, void=RIGHT) == Swaps()


def test_the_rate_is_over_all_frames_of_all_objects() -> None:
    assert swap_rate([Swaps(6, 3), Swaps(2, 0), Swaps()]) == 3 / 8
    assert math.isnan(swap_rate([Swaps()]))
    assert math.isnan(swap_rate([]))


def scored(predictions: Sequence[dict[int, np.ndarray]], both_ends: bool) -> list[ObjectScore]:
    video = VideoScore(both_ends, video_id="a")
    for index, masks in enumerate(predictions):
        video.add(index, masks, BOTH)
    return video.result()


@pytest.mark.parametrize("both_ends", [False, True])
def test_of_a_video_the_frames_count_that_are_scored(both_ends: bool) -> None:
    exchanged = {1: RIGHT, 2: LEFT}
    rows = scored([exchanged, BOTH, exchanged, BOTH, exchanged], both_ends)
    assert [row.swaps for row in rows] == [Swaps(5, 3) if both_ends else Swaps(3, 1)] * 2
    assert swap_rate(row.swaps for row in rows) == (3 / 5 if both_ends else 1 / 3)


def test_tables_show_it_where_there_are_several_objects(tmp_path) -> None:
    rows = scored([BOTH, BOTH, {1: RIGHT, 2: RIGHT}, BOTH], False)
    *lines, legend = format_scores(rows).splitlines()
    assert lines[0].split()[-1] == "swaps"
    assert [line.split()[-1] for line in (lines[2], lines[3], lines[-1])] == ["0.500", "0.000", "0.250"]
    assert legend.startswith("swaps: ")
    write_scores_csv(tmp_path / "scores.csv", rows)
    header, *_, last = (tmp_path / "scores.csv").read_text().splitlines()
    assert dict(zip(header.split(","), last.split(",")))["swap_rate"] == "0.25"

    alone = [row._replace(swaps=Swaps()) for row in rows]
    assert "swaps" not in format_scores(alone)


SEEN, GONE = np.ones((4, 4), bool), np.zeros((4, 4), bool)


def followed(predicted: str, visible: str) -> Presence:
    """Frames in order: "x" with a mask, "." without."""
    total = Presence()
    for pred, gt in zip(predicted, visible):
        total = total.followed_by(Presence.of_frame(pred == "x", gt == "x"))
    return total


@pytest.mark.parametrize(
    ("predicted", "visible", "right", "returned"),
    [
        ("xx..x", "xx..x", 5, True),
        ("xxxxx", "xx..x", 3, True),
        (".....", "xx..x", 2, True),
        ("xx...", "xx...", 5, False),  # leaves for good
        ("..xxx", "..xxx", 5, False),  # comes late
        ("xxxxx", "xxxxx", 5, False),
        ("x.x.x", "x.x.x", 5, True),
    ],
)
def test_presence_on_the_frames_of_an_object(
    predicted: str, visible: str, right: int, returned: bool
) -> None:
    found = followed(predicted, visible)
    assert (found.num_frames, found.right, found.returned) == (len(visible), right, returned)


def test_the_accuracy_is_over_the_frames_of_objects_that_return() -> None:
    assert (
        presence_accuracy([followed("xx..x", "xxx.x"), followed("x" * 15, "x" * 14 + "."), Presence()])
        == 4 / 5
    )
    assert math.isnan(presence_accuracy([followed("xx.", "xx.")]))


def returning() -> list[ObjectScore]:
    """Object 1 leaves and returns and is drawn all the time; 2 is always there, and drawn."""
    video = VideoScore(score_first_and_last=True, video_id="a")
    for index, there in enumerate((True, False, False, True)):
        video.add(index, {1: SEEN, 2: GONE}, {1: SEEN if there else GONE, 2: GONE if index else SEEN})
    return video.result()


def test_a_video_is_scored_with_it(tmp_path) -> None:
    first, second = returning()
    assert first.presence == Presence(4, 2, there=True, left=True, returned=True)
    assert not second.presence.returned
    write_scores_csv(tmp_path / "scores.csv", returning())
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["presence_accuracy"] for row in rows] == ["0.5", "", "0.5", "0.5"]
    write_scores_json(tmp_path / "scores.json", {}, returning())
    assert json.loads((tmp_path / "scores.json").read_text())["all"]["presence_accuracy"] == 0.5
    told = "presence: 50.0% of 4 frames right, of 1 objects that leave and return"
    assert told in format_summary(returning())


def test_without_such_objects_nothing_is_said(tmp_path) -> None:
    write_scores_csv(tmp_path / "scores.csv", returning()[1:])
    assert "presence" not in (tmp_path / "scores.csv").read_text() + format_summary(returning()[1:])
