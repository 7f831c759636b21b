"""BURST: a JSON of sequences with an RLE per track on each annotated frame."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import known_objects, load_masks
from sam2vt.core.data.masks.rle import encode_mask
from sam2vt.core.data.records.serialization import decode_record, encode_record

SQUARE = np.zeros((24, 32), bool)
SQUARE[4:12, 4:12] = True
RLE = encode_mask(SQUARE)["counts"].decode()


def sequence(name, dataset="set"):
    names = [f"frame{i}.jpg" for i in range(4)]
    return {
        "width": 32,
        "height": 24,
        "seq_name": name,
        "dataset": dataset,
        "all_image_paths": names,
        "annotated_image_paths": names[::2],
        "track_category_ids": {"1": 7, "2": 8},
        "segmentations": [{"1": {"rle": RLE}, "2": {"rle": RLE, "is_gt": True}}, {"1": {"rle": RLE}}],
    }


@pytest.fixture
def burst(tmp_path, frame):
    """Sequences v0 and v1 with every second frame annotated; `change` gets the first one."""

    def write(change=lambda sequence: None, frames="frames", others=()):
        sequences = [sequence("v0"), sequence("v1"), *others]
        for each in sequences:
            for name in each["all_image_paths"]:
                frame(tmp_path / frames / each["dataset"] / each["seq_name"] / name)
        change(sequences[0])
        categories = [{"id": 7, "name": "ball"}]
        content = {"sequences": sequences, "categories": categories, "split": "train"}
        (tmp_path / "train.json").write_text(json.dumps(content))
        return tmp_path

    return write


@pytest.mark.parametrize("frames", ["frames", "frames/train", "train", ""])
def test_tracks_are_objects(burst, frames):
    first, second = load_records("auto", burst(frames=frames))
    assert (first.video_id, second.video_id) == ("v0", "v1")
    assert (first.num_frames, sorted(first.annotations), first.object_ids) == (4, [0, 2], (1, 2))
    assert first.object_names == {1: "ball"}
    assert all(np.array_equal(mask, SQUARE) for mask in load_masks(first, 0).values())
    assert list(load_masks(first, 2)) == [1]
    assert known_objects(first, 2) is None  # so object 2 is known to be absent there
    assert decode_record(encode_record(first)) == first


def test_sequences_of_one_name(burst):
    records = load_records("coco", burst(others=[sequence("v0", "other")]))
    assert [each.video_id for each in records] == ["other/v0", "set/v0", "v1"]


def test_an_rle_without_its_fields(burst):
    (first, _) = load_records("auto", burst(lambda each: each["segmentations"][0].update({"1": RLE})))
    assert np.array_equal(load_masks(first, 0)[1], SQUARE)


def put(name, value):
    return lambda each: each.update({name: value})


@pytest.mark.parametrize(
    ("change", "says", "remedy"),
    [
        (put("segmentations", [{}]), ("sequence v0", "1 entries, annotated_image_paths 2"), "download"),
        (put("segmentations", [{}, {}]), ("sequence v0", "no track has an RLE"), "annotate an object"),
        (put("segmentations", [{"x": RLE}, {}]), ("sequence v0, frame 0", "'x' is no number"), "number the"),
        (
            put("segmentations", [{"1": {"bbox": [0, 0, 4, 4]}}, {}]),
            ("sequence v0, frame 0, track 1", "bbox"),
            "boxes alone are not enough",
        ),
        (put("segmentations", [[], []]), ("sequence v0, frame 0", "'[]'"), "an object of tracks"),
        (put("annotated_image_paths", ["a", "b"]), ("sequence v0", "'a' is not among"), "add it"),
        (put("all_image_paths", []), ("sequence v0", "all_image_paths"), "must list names"),
        (put("width", 99), ("sequence v0", "24 x 99", "24 x 32"), "of that size"),
        (put("seq_name", 3), ("sequences[0]", "seq_name"), "must be of type str"),
        (put("seq_name", "v9"), ("4 of 4 image files do not exist", "set/v9/frame0.jpg"), "image_root"),
        (put("seq_name", "../../.."), ("outside", "at "), "image_root"),
    ],
)
def test_bad_sequences(burst, check_bad_input, change, says, remedy):
    check_bad_input(burst(change), says, remedy)
