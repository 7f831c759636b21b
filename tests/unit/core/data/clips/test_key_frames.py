"""Clips that hold a second annotated frame, and what would make them."""

from __future__ import annotations

import pytest

from sam2vt.core.data.clips.key_frames import Sparse, find_sparse, lacking_gap


@pytest.mark.parametrize(
    ("annotated", "length", "strides", "gap"),
    [
        (range(0, 200, 25), 5, [1], 25),
        (range(0, 200, 25), 26, [1], None),
        (range(0, 200, 25), 2, [25], None),
        (range(0, 200, 4), 5, [1], None),
        (range(0, 200, 4), 4, [3], 4),
        (range(0, 200, 4), 5, range(3, 5), None),
        ([0, 30, 60, 70], 5, [1], 30),
        ([7], 5, [1], 0),
    ],
)
def test_gaps(annotated, length, strides, gap):
    assert lacking_gap(list(annotated), length, strides) == gap


def test_the_text_names_both_remedies():
    found = Sparse(5, 1)
    found.add("a", 25)
    found.add("b", None)
    assert not found.is_all
    text = found.text("dataset.video_clip_length", "dataset.frame_stride")
    assert text.startswith("1 of 2 videos (such as a): no clip of 5 frames at stride 1 holds a second")
    assert text.endswith("set dataset.frame_stride=25, or dataset.video_clip_length=26")


def test_a_single_annotated_frame_has_another_remedy():
    found = Sparse(5, 2)
    found.add("a", 0)
    assert found.is_all
    assert "annotate more frames" in found.text()
    found.add("b", 5)
    assert found.text().endswith("set frame_stride=5")  # no length reaches it at stride 2


def test_records_are_looked_at(make_video):
    box = {1: (4, 4, 20, 20)}
    sparse = make_video("sparse", [box, None, None, None, None, None, box])
    dense = make_video("dense", [box, box])
    found = find_sparse([sparse, dense], 4, 1, None)
    assert (found.num_videos, found.names) == (2, ["sparse"])
    assert not find_sparse([sparse], 4, 1, 6).names
    assert not find_sparse([sparse], 1, 1, None).num_videos  # single frames have nothing to track
