"""The difference of two models, and its interval over videos."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sam2vt.core.evaluation.comparison import paired_differences
from sam2vt.core.evaluation.jf import UNSCORED, ObjectScore


def score(video: str, object_id: int, value: float) -> ObjectScore:
    if math.isnan(value):
        return ObjectScore(video, object_id, UNSCORED, 0)
    return ObjectScore(video, object_id, {"J": value, "F": value / 2, "J&F": 0.75 * value}, 5)


def random_scores(seed: int, num_videos: int = 30) -> list[ObjectScore]:
    rng = np.random.default_rng(seed)
    return [score(f"{v:02d}", o, rng.uniform()) for v in range(num_videos) for o in range(1 + v % 3)]


def test_the_mean_is_over_the_objects_that_both_score() -> None:
    own = [score("a", 1, 0.9), score("a", 2, 0.5), score("b", 1, 0.4), score("b", 2, math.nan)]
    others = [score("a", 1, 0.6), score("a", 2, 0.7), score("b", 2, 0.4), score("b", 1, 0.3)]
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
    own = [score(f"{v:03d}", o, 0.4 + shifts[v]) for v in range(200) for o in range(3)]
    others = [score(f"{v:03d}", o, 0.4) for v in range(200) for o in range(3)]
    found = paired_differences(own, others)["J"]
    half = 1.96 * shifts.std(ddof=1) / math.sqrt(200)
    assert found.mean == pytest.approx(shifts.mean())
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=half / 8)


def test_one_video_has_no_interval_and_nothing_has_no_mean() -> None:
    found = paired_differences([score("a", 1, 0.75), score("a", 2, 0.5)], [score("a", 1, 0.25)])["J"]
    assert (found.mean, found.low, found.high) == (0.5, None, None)
    assert str(found) == "+0.500 (one video: no interval)"
    nothing = paired_differences([score("a", 1, 0.75)], [])["J"]
    assert math.isnan(nothing.mean)
    assert "nothing scored" in str(nothing)


def test_the_sentence() -> None:
    scores = [score(video, 1, 0.5) for video in "abc"]
    assert str(paired_differences(scores, scores)["J&F"]) == (
        "+0.000, 95% interval +0.000 to +0.000 (3 videos)"
    )
