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
    lines = format_scores(SCORES, BASELINE).splitlines()
    assert lines[0].split()[-3:] == ["J_hold_first", "F_hold_first", "J&F_hold_first"]
    assert lines[2].split()[-3:] == ["0.300", "0.500", "0.400"]
    assert lines[5].split()[-3:] == ["0.200", "0.300", "0.250"]
    assert lines[6].split()[-3:] == ["-", "-", "-"]
    assert len({len(line) for line in lines}) == 1


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


def test_names_are_a_column_where_there_are_some(tmp_path):
    scores = [SCORES[0]._replace(name="cystic_duct"), *SCORES[1:]]
    write_scores_csv(tmp_path / "scores.csv", scores)
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-1] == "name"
    assert [row["name"] for row in rows if row["video"] == "b"] == ["cystic_duct"]
    lines = format_scores(scores).splitlines()
    assert lines[0].split()[-1] == "name"
    assert next(line for line in lines if line.startswith("b ")).split()[-1] == "cystic_duct"
    assert len({len(line) for line in lines}) == 1
