"""LabelMe: a JSON beside each frame."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.data.records.serialization import decode_record, encode_record


def square(left, label="tool", group=1, **fields):
    points = [[left, 4], [left + 6, 4], [left + 6, 12], [left, 12]]
    return {"label": label, "points": points, "group_id": group, "shape_type": "polygon", **fields}


@pytest.fixture
def labelme(tmp_path, frame):
    """Two frames of clip `a` with objects 3 and 5, a third without a JSON; `change` gets the first JSON."""

    def write(change=lambda content: None):
        for i in range(3):
            frame(tmp_path / "a" / f"{i}.jpg")
            content = {"shapes": [square(2 + i, group=3), square(16, "hand", 5)], "imagePath": f"{i}.jpg"}
            content |= {"imageHeight": 24, "imageWidth": 32, "version": "5.5.0"}
            if i == 0:
                change(content)
            if i < 2:
                (tmp_path / "a" / f"{i}.json").write_text(json.dumps(content))
        return tmp_path

    return write


def test_groups_are_objects(labelme):
    (record,) = load_records("auto", labelme())
    assert (record.video_id, record.object_ids, sorted(record.annotations)) == ("a", (3, 5), [0, 1])
    assert record.object_names == {3: "tool", 5: "hand"}
    mask = load_masks(record, 1)[3]
    assert mask[5:12, 4:9].all()
    assert not mask[:, 12:].any()
    assert decode_record(encode_record(record)) == record
    (alone,) = load_records("labelme", labelme() / "a")
    assert alone == record


def test_groups_that_count_anew_for_each_label(labelme):
    def change(content):
        for shape in content["shapes"]:
            shape["group_id"] = 1

    root = labelme(change)
    (root / "a/1.json").unlink()
    (record,) = load_records("auto", root)
    assert record.object_names == {1: "hand 1", 2: "tool 1"}


def test_a_group_of_two_labels_on_different_frames_is_told(labelme, caplog):
    root = labelme(lambda content: content["shapes"][0].update(label="tol"))
    (record,) = load_records("auto", root)
    assert len(record.object_ids) == 3
    assert (
        "group_id 3 is labelled tol, tool, never on the same frame, and is read as 2 objects" in caplog.text
    )
    assert "group_id 5" not in caplog.text


def test_a_path_of_another_system_names_the_same_frame(labelme):
    root = labelme(lambda content: content.update(imagePath="..\\frames\\0.png"))
    assert len(load_records("auto", root)) == 1


def test_parts_of_an_object_are_united(labelme):
    root = labelme(lambda content: content["shapes"].append(square(24, group=3)))
    (record,) = load_records("auto", root)
    mask = load_masks(record, 0)[3]
    assert np.flatnonzero(mask[8]).tolist() == [*range(2, 8), *range(24, 30)]


def named_frames(root, frame, names):
    for place, name in enumerate(names):
        frame(root / f"a/{name}.jpg")
        (root / f"a/{name}.json").write_text(json.dumps({"shapes": [square(2 + place)]}))
    return root


def test_frames_are_in_order_of_time(tmp_path, frame, check_bad_input):
    times = ["t-0.2", "t-0.12", "t0.0", "t0.12", "t0.2"]
    (record,) = load_records("auto", named_frames(tmp_path / "times", frame, times))
    assert [Path(path).stem for path in record.frame_paths] == times
    lefts = [int(np.flatnonzero(load_masks(record, place)[1].any(axis=0))[0]) for place in range(5)]
    assert lefts == [2, 3, 4, 5, 6]
    unclear = named_frames(tmp_path / "unclear", frame, ["a2_001", "a1_002", "a3_003"])
    check_bad_input(unclear, ("a1_002", "a2_001"), "Rename the frames")


def without_groups(content):
    for shape in content["shapes"]:
        shape["group_id"] = None


@pytest.mark.parametrize(("identity", "names"), [("category", {1: "hand", 2: "tool"}), ("iou", None)])
def test_identity_is_chosen(labelme, identity, names):
    (record,) = load_records("auto", labelme(without_groups), identity=identity)
    assert record.object_ids == (1, 2)
    assert sorted(load_masks(record, 1)) == [1, 2]
    assert set(record.object_names.values()) == {"hand", "tool"}
    assert names in (None, record.object_names)


def test_no_shapes_are_an_empty_frame(labelme):
    (record,) = load_records("auto", labelme(lambda content: content["shapes"].clear()))
    assert load_masks(record, 0) == {}


def put(name, value):
    return lambda content: content["shapes"][0].update({name: value})


@pytest.mark.parametrize(
    ("change", "says", "remedy"),
    [
        (without_groups, ("shapes[0] (tool)", "frame 0", "group_id"), "identity=category"),
        (put("shape_type", "rectangle"), ("0.json", "shapes[0]", "rectangle"), "draw one in LabelMe"),
        (put("points", [[1, 2, 3]] * 3), ("0.json", "shapes[0]", "pairs"), "save the file again"),
        (put("points", [[1, 2]]), ("frame 0, object 3", "polygon 0"), "at least 3 points"),
        (put("label", 4), ("0.json", "label"), "must be of type str"),
        (put("group_id", [1]), ("track id", "list"), "allowed is a whole number or a text"),
        (lambda content: content.update(imagePath="2.jpg"), ("0.json", "'2.jpg'"), "correct imagePath"),
        (lambda content: content.update(imageWidth=99), ("0.json", "24 x 99"), "of that size"),
        (lambda content: content.update(shapes={}), ("0.json", "shapes"), "must be of type list"),
    ],
)
def test_bad_files(labelme, check_bad_input, change, says, remedy):
    check_bad_input(labelme(change), says, remedy)
