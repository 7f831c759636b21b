"""The order of frames by their names, and names whose order is not clear."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.formats.frame_order import frame_order
from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.writing.encoding import write_video
from sam2vt.errors import DataError

TIMES = [str(round(0.04 * t, 2)) for t in range(30)]


def ordered(names):
    return [names[place] for place in frame_order(names, "clip")]


@pytest.mark.parametrize(
    "names",
    [
        ["2", "10"],
        ["frame_2_endo", "frame_10_endo"],
        TIMES,
        ["t0.5s", "t0.75s", "t1.0s", "t1.25s"],
        ["shot1.0001", "shot1.0002", "shot1.0010"],
        ["12-59-58", "12-59-59", "13-00-00", "13-00-01"],  # a clock's last number starts over
        ["2024.01.31", "2024.02.01", "2024.02.02"],
        ["a_1", "a_1b", "b_1"],
        ["9" * 700 + "_1", "a"],
        ["-0.08", "-0.04", "0.0", "0.04"],  # times around an event
        ["-2", "-1", "0", "1", "10"],
        ["0.0", "1e-05", "2e-05", "0.0001"],  # as Python prints small floats
        ["clip/-2", "clip/-1", "clip/0"],
        ["t-2", "t-1", "t0"],
        ["t-2", "t-1", "t0", "t1", "t10"],
        ["clip/t-0.08s", "clip/t-0.04s", "clip/t0.0s", "clip/t0.04s"],
        ["t-2", "t-1", "t+1", "t+2"],
        ["cam1_-10", "cam1_-5", "cam1_0"],
        ["t-4", "t-1", "t2"],
        ["clip--2", "clip--1", "clip-0"],
        ["t0.0", "t1e-05", "t2e-05", "t0.0001"],
        ["clip-1-00001", "clip-1-00002", "clip-2-00001"],  # dashes of all names are separators
        ["clip-1", "clip-2", "clip-10"],
        ["2020-01-02", "2020-01-03", "2020-01-10"],
        ["image", "image-1", "image-2"],
        ["a1", "a1-1", "a1-2"],
        ["s01e01", "s01e02", "s02e01"],
        ["1a", "1b", "2a"],
        ["b1", "b2", "b10"],
    ],
)
def test_clear_orders(names):
    assert ordered(names[::-1]) == names


@pytest.mark.parametrize(
    ("names", "one", "other"),
    [
        (
            ["0.8", "0.9", "0.10", "0.11"],
            "begins with 0.8, 0.9, 0.10",
            "as decimals it begins with 0.10, 0.11",
        ),
        (
            ["a2_001", "a1_002", "a3_003"],
            "begins with a1_002",
            "last number in each name it begins with a2_001",
        ),
        (["-1", "-2", "-3"], "begins with -1, -2, -3", "by signed value it begins with -3, -2, -1"),
        (
            [f"{t:02x}" for t in range(32)],
            "continues with 0a, 0b",
            "as hexadecimal numbers it continues with 01, 02",
        ),
        (["9", "a", "10", "f"], "continues with 10, a", "as hexadecimal numbers it continues with a, f"),
        (["v1", "v-2", "v3"], "begins with v1, v3, v-2", "by signed value it begins with v-2, v1, v3"),
        (["v-1", "v-3", "v7"], "begins with v7, v-1, v-3", "by signed value it begins with v-3, v-1, v7"),
        (["v1", "v-2"], "begins with v1, v-2", "by signed value it begins with v-2, v1"),
        (
            ["s1e-01", "s1e-02", "s2e-01"],
            "begins with s1e-01, s1e-02",
            "by signed value it begins with s1e-02, s1e-01",
        ),
        (["a_1", "b_3", "c_2"], "continues with b_3, c_2", "continues with c_2, b_3"),
    ],
)
def test_unclear_orders_are_refused_with_both(names, one, other):
    with pytest.raises(DataError) as caught:
        ordered(names)
    message = str(caught.value)
    assert message.startswith("clip: the order of the frames is not clear")
    assert one in message
    assert other in message
    assert "Rename the frames" in message


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(st.lists(st.text("019.-_ae", min_size=1, max_size=6), unique=True, max_size=6))
def test_any_names(names):
    try:
        order = frame_order(names, "clip")
    except DataError:
        return
    assert sorted(order) == list(range(len(names)))
    assert ordered(sorted(names)) == [names[place] for place in order]  # whatever order they come in


@settings(max_examples=100, derandomize=True, database=None, deadline=None)
@given(st.lists(st.integers(0, 3000), unique=True, min_size=1, max_size=12))
def test_times_are_in_order_of_value(hundredths):
    assert ordered([str(each / 100) for each in hundredths]) == [
        str(each / 100) for each in sorted(hundredths)
    ]


@pytest.fixture
def times(tmp_path, frame, mask):
    """A tree whose frames are named by times; object 1 on the first frame of them, 2 on the others."""
    for place, name in enumerate(TIMES[:8]):
        frame(tmp_path / "JPEGImages/clip" / f"{name}.png")
        mask(tmp_path / "Annotations/clip" / f"{name}.png", (1 if place == 0 else 2,))
    return tmp_path


def test_a_tree_named_by_times(times):
    (record,) = load_records("auto", times)
    assert [path.rsplit("/", 1)[1] for path in record.frame_paths] == [f"{name}.png" for name in TIMES[:8]]


def test_masks_of_a_video_file_named_by_times(times):
    write_video(
        times / "JPEGImages/clip.mp4", [np.full((24, 32, 3), t * 20, np.uint8) for t in range(8)], fps=25
    )
    for path in (times / "JPEGImages/clip").iterdir():
        path.unlink()
    (times / "JPEGImages/clip").rmdir()
    (record,) = load_records("auto", times)
    names = [record.annotations[i].path.rsplit("/", 1)[1] for i in range(8)]
    assert names == [f"{name}.png" for name in TIMES[:8]]
    assert read_frames(record, [0]).mean() < 10


def test_a_tree_of_unclear_names_is_refused(tmp_path, frame, mask, check_bad_input):
    for name in ("a2_001", "a1_002", "a3_003"):
        frame(tmp_path / "JPEGImages/clip" / f"{name}.png")
        mask(tmp_path / "Annotations/clip" / f"{name}.png")
    check_bad_input(tmp_path, ("JPEGImages/clip", "a1_002", "a2_001"), "Rename the frames")


def test_coco_orders_by_the_same_rule(tmp_path, frame):
    images = [{"id": i, "video_id": 1, "file_name": f"{name}.jpg"} for i, name in enumerate(TIMES[:8])]
    for each in images:
        frame(tmp_path / each["file_name"])
    square = [[2, 2, 10, 2, 10, 10, 2, 10]]
    annotations = [{"id": 1, "image_id": 0, "track_id": 1, "segmentation": square}]
    (tmp_path / "a.json").write_text(json.dumps({"images": images[::-1], "annotations": annotations}))
    (record,) = load_records("auto", tmp_path)
    assert [path.rsplit("/", 1)[1] for path in record.frame_paths] == [each["file_name"] for each in images]
