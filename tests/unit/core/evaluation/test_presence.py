"""The presence accuracy: which objects count, and which of their frames are right."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest

from sam2vt.core.evaluation.jf import ObjectScore, VideoScore
from sam2vt.core.evaluation.presence import Presence, presence_accuracy
from sam2vt.core.evaluation.summary import format_summary, write_scores_json
from sam2vt.core.evaluation.tables import write_scores_csv

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
def test_frames_of_an_object(predicted: str, visible: str, right: int, returned: bool) -> None:
    found = followed(predicted, visible)
    assert (found.num_frames, found.right, found.returned) == (len(visible), right, returned)


def test_the_accuracy_is_over_the_frames_of_objects_that_return() -> None:
    assert (
        presence_accuracy([followed("xx..x", "xxx.x"), followed("x" * 15, "x" * 14 + "."), Presence()])
        == 4 / 5
    )
    assert math.isnan(presence_accuracy([followed("xx.", "xx.")]))


def scored() -> list[ObjectScore]:
    """Object 1 leaves and returns and is drawn all the time; 2 is always there, and drawn."""
    video = VideoScore(score_first_and_last=True, video_id="a")
    for index, there in enumerate((True, False, False, True)):
        video.add(index, {1: SEEN, 2: GONE}, {1: SEEN if there else GONE, 2: GONE if index else SEEN})
    return video.result()


def test_a_video_is_scored_with_it(tmp_path) -> None:
    first, second = scored()
    assert first.presence == Presence(4, 2, there=True, left=True, returned=True)
    assert not second.presence.returned
    write_scores_csv(tmp_path / "scores.csv", scored())
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["presence_accuracy"] for row in rows] == ["0.5", "", "0.5", "0.5"]
    write_scores_json(tmp_path / "scores.json", {}, scored())
    assert json.loads((tmp_path / "scores.json").read_text())["all"]["presence_accuracy"] == 0.5
    told = "presence: 50.0% of 4 frames right, of 1 objects that leave and return"
    assert told in format_summary(scored())


def test_without_such_objects_nothing_is_said(tmp_path) -> None:
    write_scores_csv(tmp_path / "scores.csv", scored()[1:])
    assert "presence" not in (tmp_path / "scores.csv").read_text() + format_summary(scored()[1:])
