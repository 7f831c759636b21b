"""Strides, directions and the choice of objects; without their settings clips are what they always were."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from sam2vt.core.data.clips.drawing import draw_clip
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.types import SampleKey
from sam2vt.errors import ConfigError

SPEC = ClipSpec((32, 32), 3, PromptGenerator(["mask"]))
SMALL, MIDDLE, LARGE = (2, 2, 6, 6), (10, 10, 20, 20), (30, 10, 60, 40)  # 16, 100 and 900 pixels


@pytest.fixture
def video(make_video):
    """Twelve frames with three objects; the middle one is there in the second half only."""
    frames = [{1: SMALL, 3: LARGE, **({2: MIDDLE} if i >= 6 else {})} for i in range(12)]
    return make_video("video", frames)


def clips(record, number=60, **options):
    spec = replace(SPEC, **options)
    return [draw_clip([record], SampleKey(0, index), spec) for index in range(number)]


def strides(found):
    return Counter(int(abs(np.diff(clip["frame_indices"])[0])) for clip in found)


def test_strides_are_drawn_between_the_two(video):
    assert set(strides(clips(video, frame_stride=2, max_frame_stride=4))) == {2, 3, 4}
    assert set(strides(clips(video, frame_stride=2))) == {2}


def test_a_stride_that_does_not_fit_becomes_the_longest_that_does(video):
    found = clips(video, max_frame_stride=50)
    assert max(strides(found)) == 5  # 3 frames over 12
    assert all(clip["valid_masks"].all() for clip in found)


def test_clips_run_backwards(video):
    found = clips(video, reverse_probability=0.5)
    backwards = [clip for clip in found if clip["frame_indices"][0] > clip["frame_indices"][-1]]
    assert 15 < len(backwards) < 45
    for clip in backwards:
        for image, frame in zip(clip["images"], clip["frame_indices"]):
            assert (image == frame).all()  # a frame's value tells its index
    assert all(
        clip["frame_indices"][0] > clip["frame_indices"][2] for clip in clips(video, reverse_probability=1)
    )


def test_what_only_shows_at_the_start_is_not_turned_to_the_end(make_video):
    record = make_video("once", [{1: LARGE}, {}, {}])
    (clip,) = clips(record, 1, reverse_probability=1.0)
    assert clip["frame_indices"] == [0, 1, 2]


def test_small_objects_are_left_out(video):
    assert all(1 not in clip["object_ids"] for clip in clips(video, min_object_pixels=17))
    assert all(clip["object_ids"] == [3] for clip in clips(video, min_object_pixels=101))
    assert all(clip["object_ids"] == [3] for clip in clips(video, min_object_pixels=10_000))  # the largest
    assert any(1 in clip["object_ids"] for clip in clips(video, min_object_pixels=16))


@pytest.mark.parametrize(("sampling", "most", "least"), [("large", 3, 1), ("visible", 3, 2)])
def test_objects_are_drawn_by_what_they_show(video, sampling, most, least):
    drawn = Counter(
        clip["object_ids"][0] for clip in clips(video, 200, max_objects=1, object_sampling=sampling)
    )
    assert drawn[most] > 1.2 * drawn[least]
    uniform = Counter(clip["object_ids"][0] for clip in clips(video, 200, max_objects=1))
    assert uniform != drawn


def test_draws_repeat(video):
    options = {
        "max_frame_stride": 4,
        "reverse_probability": 0.5,
        "object_sampling": "large",
        "max_objects": 1,
    }
    for once, again in zip(clips(video, 10, **options), clips(video, 10, **options)):
        assert once["frame_indices"] == again["frame_indices"]
        assert np.array_equal(once["images"], again["images"])
        assert np.array_equal(once["masks"], again["masks"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_stride": 3, "max_frame_stride": 2}, "max_frame_stride=2: must be at least frame_stride=3"),
        ({"reverse_probability": 1.5}, "reverse_probability=1.5: must be between 0 and 1"),
        ({"min_object_pixels": -1}, "min_object_pixels=-1: must be at least 0"),
        ({"object_sampling": "big"}, "object_sampling='big': must be one of uniform, visible, large"),
    ],
)
def test_values_that_are_not_allowed(options, message):
    with pytest.raises(ConfigError, match=message):
        replace(SPEC, **options)
