from __future__ import annotations

import numpy as np
import pytest

from sam2vt.core.data.frames.frame_index import FrameIndex


def index(times, keys):
    keys = np.array(keys, dtype=np.int64)
    return FrameIndex(len(times), np.array(times, dtype=np.int64), keys, keys - 2)


@pytest.mark.parametrize(("frame", "key"), [(0, 0), (2, 0), (3, 1), (5, 1), (6, 2), (8, 2)])
def test_a_frame_is_decoded_from_the_key_frame_at_or_before_it(frame, key):
    assert index(range(0, 90, 10), [0, 30, 60]).key_place(frame) == key


def test_the_first_complete_frame_of_a_key_frame():
    found = index([5, 10, 20, 30, 45], [5, 20, 45])
    assert [found.first_frame(key) for key in range(3)] == [0, 2, 4]


def test_discarded_key_frames_lie_before_the_first_frame():
    found = index([0, 10, 20], [-30, -10, 10])
    assert [found.key_place(i) for i in range(3)] == [1, 2, 2]
    assert [found.first_frame(key) for key in range(3)] == [0, 0, 1]


def test_without_times_everything_is_read_from_the_start():
    found = FrameIndex(9, None, np.array([0, 30]), np.array([0, 30]))
    assert (found.key_place(8), found.first_frame(1)) == (0, 0)


def test_only_known_key_frames_up_to_the_wanted_one_are_found():
    found = index(range(0, 90, 10), [0, 30, 60])
    assert [found.key_of(time, 1) for time in (30, 60, 0, 35, None)] == [1, None, None, None, None]
