"""Classes, spread and difference of a set of scores, as text and as JSON."""

from __future__ import annotations

import json
import math
import statistics

import numpy as np
import pytest

from sam2vt.core.evaluation.jf import UNSCORED, ObjectScore
from sam2vt.core.evaluation.summary import by_class, format_summary, paired_differences, write_scores_json


def score(video: str, object_id: int, value: float | None, name: str = "") -> ObjectScore:
    values = UNSCORED if value is None else {"J": value, "F": value, "J&F": value}
    return ObjectScore(video, object_id, values, 0 if value is None else 7, name)


SCORES = [
    score("a", 1, 0.5, "dog"), score("a", 2, 0.75, "cat"), score("b", 1, 1.0, "dog"),
    score("b", 2, None, "bird"), score("c", 1, 0.25),
]  # fmt: skip
OTHERS = [each._replace(values={name: value / 2 for name, value in each.values.items()}) for each in SCORES]


def test_summary_reads_like_this() -> None:
    assert format_summary(SCORES, OTHERS).splitlines() == [
        "class      objects      J      F    J&F   held     sd",
        "-----------------------------------------------------",
        "cat              1  0.750  0.750  0.750  0.375      -",
        "dog              2  0.750  0.750  0.750  0.375  0.354",
        "(no name)        1  0.250  0.250  0.250  0.125      -",
        "sd: standard deviation of J&F over the class's objects",
        "",
        "standard deviation of J&F: 0.323 over 4 objects, 0.375 over 3 videos",
    ]


def test_a_comparison_is_named() -> None:
    last = format_summary(SCORES, (), OTHERS, against="mine@123").splitlines()[-1]
    assert last.startswith("J&F minus that of mine@123: +0.312, 95% interval +0.")
    one = format_summary(SCORES[:1], (), OTHERS[:1], against="it").splitlines()
    assert one[-2:] == [
        "standard deviation of J&F: none over 1 object, none over 1 video",
        "J&F minus that of it: +0.250 (one video: no interval)",
    ]


def test_a_comparison_fits_80_columns() -> None:
    name = "a-run-with-a-long-name_" * 4 + "best@0123456789ab"
    *_, named, told = format_summary(SCORES, (), OTHERS, against=name).splitlines()
    assert named.startswith("J&F minus that of a-run-with")
    assert named.endswith("best@0123456789ab:")
    assert told.startswith("  +0.312, 95% interval")
    assert max(len(named), len(told)) <= 80


def test_without_names_there_are_no_classes() -> None:
    plain = [each._replace(name="") for each in SCORES]
    assert by_class(plain) == {}
    assert len(format_summary(plain).splitlines()) == 1


def test_json_has_all_of_it(tmp_path) -> None:
    path = tmp_path / "scores.json"
    write_scores_json(path, {"checkpoint": {"name": "naïve"}}, SCORES, OTHERS, OTHERS, seed=2)

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    found = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert list(found) == ["checkpoint", "objects", "videos", "classes", "all", "difference"]
    assert found["checkpoint"] == {"name": "naïve"}
    assert found["objects"][0] == {
        "video": "a", "object": 1, "name": "dog", "frames": 7,
        "J": 0.5, "F": 0.5, "J&F": 0.5, "J_hold_first": 0.25, "F_hold_first": 0.25, "J&F_hold_first": 0.25,
        "J_against": 0.25, "F_against": 0.25, "J&F_against": 0.25,
        "J_difference": 0.25, "F_difference": 0.25, "J&F_difference": 0.25,
    }  # fmt: skip
    assert found["objects"][3]["J"] is None
    assert [(each["video"], each["objects"], each["J&F"]) for each in found["videos"]] == [
        ("a", 2, 0.625), ("b", 1, 1.0), ("c", 1, 0.25),
    ]  # fmt: skip
    assert found["classes"][0]["sd"]["J"] is None
    assert found["all"]["sd"]["J"] == pytest.approx(statistics.stdev([0.5, 0.75, 1.0, 0.25]))
    assert found["all"]["sd_over_videos"]["J"] == pytest.approx(statistics.stdev([0.625, 1.0, 0.25]))
    difference = found["difference"]["J&F"]
    assert difference["mean"] == pytest.approx(2.5 / 8)
    assert difference["low"] <= difference["mean"] <= difference["high"]
    assert "2000 resamples" in found["difference"]["interval"]
    assert not math.isnan(difference["low"])


def measured(video: str, object_id: int, value: float) -> ObjectScore:
    if math.isnan(value):
        return ObjectScore(video, object_id, UNSCORED, 0)
    return ObjectScore(video, object_id, {"J": value, "F": value / 2, "J&F": 0.75 * value}, 5)


def random_scores(seed: int, num_videos: int = 30) -> list[ObjectScore]:
    rng = np.random.default_rng(seed)
    return [measured(f"{v:02d}", o, rng.uniform()) for v in range(num_videos) for o in range(1 + v % 3)]


def test_the_mean_is_over_the_objects_that_both_measured() -> None:
    own = [measured("a", 1, 0.9), measured("a", 2, 0.5), measured("b", 1, 0.4), measured("b", 2, math.nan)]
    others = [measured("a", 1, 0.6), measured("a", 2, 0.7), measured("b", 2, 0.4), measured("b", 1, 0.3)]
    found = paired_differences(own, others)
    assert found["J"].mean == pytest.approx((0.3 - 0.2 + 0.1) / 3)
    assert found["F"].mean == pytest.approx(found["J"].mean / 2)
    assert (found["J"].num_objects, found["J"].num_videos) == (3, 2)


def test_the_interval_follows_from_scores_and_seed_alone() -> None:
    own, others = random_scores(0), random_scores(1)
    found = paired_differences(own, others, seed=3)
    assert paired_differences(own[::-1], others[::-1], seed=3) == found
    assert paired_differences(own, others, seed=4)["J"] != found["J"]
    assert found["J"].low < found["J"].mean < found["J"].high


def test_the_interval_is_that_of_a_bootstrap_over_videos() -> None:
    """Of equally large videos it comes near the normal interval of the videos' mean differences."""
    rng = np.random.default_rng(5)
    shifts = rng.normal(0.1, 0.05, 200)
    own = [measured(f"{v:03d}", o, 0.4 + shifts[v]) for v in range(200) for o in range(3)]
    others = [measured(f"{v:03d}", o, 0.4) for v in range(200) for o in range(3)]
    found = paired_differences(own, others)["J"]
    half = 1.96 * shifts.std(ddof=1) / math.sqrt(200)
    assert found.mean == pytest.approx(shifts.mean())
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=half / 8)


def test_one_video_has_no_interval_and_nothing_has_no_mean() -> None:
    found = paired_differences([measured("a", 1, 0.75), measured("a", 2, 0.5)], [measured("a", 1, 0.25)])["J"]
    assert (found.mean, found.low, found.high) == (0.5, None, None)
    assert str(found) == "+0.500 (one video: no interval)"
    nothing = paired_differences([measured("a", 1, 0.75)], [])["J"]
    assert math.isnan(nothing.mean)
    assert "nothing scored" in str(nothing)


def test_the_sentence() -> None:
    scores = [measured(video, 1, 0.5) for video in "abc"]
    assert str(paired_differences(scores, scores)["J&F"]) == (
        "+0.000, 95% interval +0.000 to +0.000 (3 videos)"
    )
