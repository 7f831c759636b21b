"""CVAT's Segmentation mask 1.1: colours of labels, without identity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.formats.cvat_masks import read_label_map
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.errors import DataError

MAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:250,50,83::\ndog:51,221,255::\n"


@pytest.fixture
def masks(tmp_path, frame):
    def write(label_map=MAP):
        pixels = np.zeros((24, 32, 3), np.uint8)
        pixels[4:12, 4:12], pixels[4:12, 20:28] = (250, 50, 83), (51, 221, 255)
        (tmp_path / "SegmentationClass").mkdir()
        for i in range(2):
            frame(tmp_path / "JPEGImages" / f"frame_{i:06d}.jpg")
            Image.fromarray(pixels).save(tmp_path / "SegmentationClass" / f"frame_{i:06d}.png")
        (tmp_path / "labelmap.txt").write_text(label_map)
        return tmp_path

    return write


def test_labels_are_objects_where_that_is_chosen(masks):
    (record,) = load_records("auto", masks(), identity="category")
    assert record.object_names == {1: "cat", 2: "dog"}
    assert {key: int(mask.sum()) for key, mask in load_masks(record, 1).items()} == {1: 64, 2: 64}


def test_identity_is_never_guessed(masks, check_bad_input):
    check_bad_input(masks(), ("does not say which object is which",), "identity=category")


@pytest.mark.parametrize(
    ("label_map", "says", "remedy"),
    [
        ("cat 1,2,3\n", ("labelmap.txt: line 1", "cat 1,2,3"), "such as cat:128,0,0::"),
        ("cat:1,2,3::\ndog:1,2,3::\n", ("labels share a colour",), "a colour of its own"),
        ("background:0,0,0::\n", ("there is none",), "a colour of its own"),
        ("cat:1,2,300::\n", ("line 1", "cat:1,2,300::"), "such as cat:128,0,0::"),
    ],
)
def test_bad_label_maps(masks, check_bad_input, label_map, says, remedy):
    check_bad_input(masks(label_map), says, remedy, identity="category")


def test_frames_are_needed(masks, check_bad_input):
    root = masks()
    (root / "JPEGImages").rename(root / "pictures")
    check_bad_input(root, ("no frames in JPEGImages",), "with its images", identity="category")


def test_any_label_map(tmp_path):
    path = tmp_path / "labelmap.txt"

    @settings(max_examples=200, derandomize=True, database=None, deadline=None)
    @given(st.text("ab:,#0129\n -", max_size=30) | st.binary(max_size=12))
    def read(content):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        refusal, colours = str(path), {}
        try:
            colours = read_label_map(str(path))
        except DataError as error:
            refusal = str(error)
        assert str(path) in refusal
        assert all(len(colour) == 3 and max(colour) <= 255 for colour in colours.values())

    read()
