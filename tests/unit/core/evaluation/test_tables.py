"""The score tables: what they hold, and how they read."""

from __future__ import annotations

import csv
import math

import pytest

from sam2vt.core.evaluation.jf import ObjectScore, mean_score
from sam2vt.core.evaluation.tables import format_scores, write_scores_csv

SCORES = [
    ObjectScore("b", 1, {"J": 0.5, "F": 0.7, "J&F": 0.6}, 10),
    ObjectScore("a", 10, {"J": 0.9, "F": 0.8, "J&F": 0.85}, 4),
    ObjectScore("a", 2, {"J": 0.1, "F": 0.2, "J&F": 0.15}, 6),
    ObjectScore("a", 3, {"J": math.nan, "F": math.nan, "J&F": math.nan}, 0),
]
BASELINE = [
    ObjectScore("a", 2, {"J": 0.3, "F": 0.5, "J&F": 0.4}, 6),
    ObjectScore("a", 10, {"J": 0.1, "F": 0.1, "J&F": 0.1}, 4),
]


def test_mean_is_over_objects_that_were_scored():
    mean = mean_score(SCORES)
    assert mean.values == pytest.approx({"J": 1.5 / 3, "F": 1.7 / 3, "J&F": 3.2 / 6})
    assert mean.num_objects == 3
    assert math.isnan(mean_score(SCORES[3:]).values["J&F"])
    assert mean_score([]).num_objects == 0


def test_table_reads_like_this():
    assert format_scores(SCORES).splitlines() == [
        "video  object  frames      J      F    J&F",
        "------------------------------------------",
        "a           2       6  0.100  0.200  0.150",
        "a           3       0      -      -      -",
        "a          10       4  0.900  0.800  0.850",
        "a        mean          0.500  0.500  0.500",
        "b           1      10  0.500  0.700  0.600",
        "------------------------------------------",
        "all      mean          0.500  0.567  0.533",
    ]


def test_table_with_a_baseline():
    *lines, legend = format_scores(SCORES, BASELINE).splitlines()
    assert lines[0].split()[-2:] == ["J&F", "held"]
    assert [lines[place].split()[-1] for place in (2, 5, 6)] == ["0.400", "0.250", "-"]
    assert len({len(line) for line in lines}) == 1
    assert legend == "held: J&F of each object's first mask, repeated"


def test_table_against_another_model():
    lines = format_scores(SCORES, BASELINE, BASELINE).splitlines()
    assert lines[0].split()[-4:] == ["J&F", "held", "other", "diff"]
    assert lines[2].split()[-4:] == ["0.150", "0.400", "0.400", "-0.250"]
    assert lines[4].split()[-4:] == ["0.850", "0.100", "0.100", "+0.750"]
    assert lines[-4].split()[-2:] == ["0.250", "+0.283"]
    assert len(lines[-3:]) == len([line for line in lines if ": J&F" in line])


def test_long_names_are_shortened_in_the_middle_to_80_columns():
    name = "a_class_with_a_name_of_its_own"
    scores = [
        each._replace(video_id=f"{60 * 'v'}{each.video_id}", object_id=12345 + each.object_id, name=name)
        for each in SCORES
    ]
    *lines, _, _, _ = format_scores(scores, scores, scores).splitlines()
    assert {len(line) for line in lines} == {80}
    assert lines[2].split()[:3] == ["vvv..vva", "12347", "a_cla.._own"]
    wide = format_scores(scores).splitlines()[2]
    assert len(wide) == 80
    assert name in wide  # the video gives way first


def test_table_without_scores():
    assert format_scores([]).splitlines()[-1].split() == ["all", "mean", "-", "-", "-"]


def test_csv(tmp_path):
    path = tmp_path / "new" / "scores.csv"
    write_scores_csv(path, SCORES, BASELINE)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["video"], row["object"]) for row in rows] == [
        ("a", "2"), ("a", "3"), ("a", "10"), ("a", "mean"), ("b", "1"), ("all", "mean"),
    ]  # fmt: skip
    assert float(rows[-1]["J&F"]) == pytest.approx(3.2 / 6, abs=1e-15)
    assert (rows[1]["J"], rows[1]["frames"]) == ("", "0")
    assert rows[0]["J_hold_first"] == "0.3"
    write_scores_csv(path, SCORES)
    assert path.read_text().splitlines()[0] == "video,object,frames,J,F,J&F"


def test_csv_against_another_model(tmp_path):
    path = tmp_path / "scores.csv"
    named = [SCORES[0]._replace(name="dog"), *SCORES[1:]]
    write_scores_csv(path, named, BASELINE, BASELINE, labels={"checkpoint": "mine@12", "against": "b@34"})
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    ends = ("", "_hold_first", "_against", "_difference")
    values = [f"{metric}{end}" for end in ends for metric in ("J", "F", "J&F")]
    assert list(rows[0]) == ["video", "object", "frames", *values, "name", "checkpoint", "against"]
    assert float(rows[0]["J_difference"]) == pytest.approx(0.1 - 0.3)
    assert rows[1]["J_difference"] == rows[4]["J_difference"] == ""
    assert {(row["checkpoint"], row["against"]) for row in rows} == {("mine@12", "b@34")}


def test_names_are_a_column_where_there_are_some(tmp_path):
    scores = [SCORES[0]._replace(name="cystic_duct"), *SCORES[1:]]
    write_scores_csv(tmp_path / "scores.csv", scores)
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-1] == "name"
    assert [row["name"] for row in rows if row["video"] == "b"] == ["cystic_duct"]
    lines = format_scores(scores).splitlines()
    assert lines[0].split()[:3] == ["video", "object", "name"]
    assert next(line for line in lines if line.startswith("b ")).split()[2] == "cystic_duct"
    assert len({len(line) for line in lines}) == 1
