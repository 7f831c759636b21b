from __future__ import annotations

import pytest

from sam2vt.core.data.formats.coco_identity import assign_object_ids
from sam2vt.errors import DataError

SIZE = (20, 40)
NAMES = {1: "hand", 2: "tool"}


def square(left: float, category: int = 1, **fields):
    polygon = [left, 2, left + 8, 2, left + 8, 10, left, 10]
    return {"id": int(left), "category_id": category, "segmentation": [polygon], **fields}


def ids_of(objects):
    """Frame -> the left edge of each object's first polygon."""
    return {
        frame: {key: int(each[0][0][0]) for key, each in found.items()} for frame, found in objects.items()
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"track_id": 3},
        {"track_id": 3.0},
        {"instance_id": 3},
        {"attributes": {"track_id": 3}},
        {"track_id": "3"},
    ],
)
def test_tracks_keep_their_numbers(fields):
    objects, names = assign_object_ids(
        {0: [square(0, **fields)], 4: [square(9, **fields)]}, "error", {}, SIZE, "x"
    )
    assert ids_of(objects) == {0: {3: 0}, 4: {3: 9}}
    assert names == {}


def test_tracks_with_names_are_numbered():
    annotations = {0: [square(0, track_id="b"), square(9, track_id="a2")], 1: [square(1, track_id="a10")]}
    objects, names = assign_object_ids(annotations, "error", {}, SIZE, "x")
    assert ids_of(objects) == {0: {3: 0, 1: 9}, 1: {2: 1}}
    assert names == {1: "a2", 2: "a10", 3: "b"}


def test_tracks_that_are_equal_only_as_numbers_stay_apart():
    annotations = {0: [square(0, track_id="01"), square(9, track_id="1")]}
    objects, _ = assign_object_ids(annotations, "error", {}, SIZE, "x")
    assert sorted(ids_of(objects)[0].values()) == [0, 9]


def test_parts_of_a_track_are_united():
    objects, _ = assign_object_ids(
        {0: [square(0, track_id=1), square(20, track_id=1)]}, "error", {}, SIZE, "x"
    )
    assert len(objects[0][1]) == 2


def test_without_identity_the_choices_are_offered():
    annotations = {0: [square(0, track_id=1)], 7: [square(5)]}
    with pytest.raises(DataError) as caught:
        assign_object_ids(annotations, "error", {}, SIZE, "v.json: video 2")
    message = str(caught.value)
    assert "v.json: video 2, frame 7: annotation 5" in message
    assert all(word in message for word in ("track_id", "identity=category", "identity=iou"))


def test_one_object_a_category():
    annotations = {0: [square(0), square(20), square(9, 2)], 5: [square(1, 2)]}
    objects, names = assign_object_ids(annotations, "category", NAMES, SIZE, "x")
    assert {frame: sorted(found) for frame, found in objects.items()} == {0: [1, 2], 5: [2]}
    assert len(objects[0][1]) == 2
    assert names == {1: "hand", 2: "tool"}


def test_overlapping_masks_are_linked():
    annotations = {0: [square(0), square(20)], 10: [square(22), square(1)], 20: [square(2)]}
    objects, _ = assign_object_ids(annotations, "iou", {}, SIZE, "x")
    assert ids_of(objects) == {0: {1: 0, 2: 20}, 10: {2: 22, 1: 1}, 20: {1: 2}}


def test_the_best_pair_is_linked_first():
    annotations = {0: [square(0)], 1: [square(3), square(1)]}
    objects, _ = assign_object_ids(annotations, "iou", {}, SIZE, "x")
    assert ids_of(objects)[1] == {1: 1, 2: 3}


def test_only_masks_of_a_category_on_neighbouring_frames_are_linked():
    other_category, _ = assign_object_ids({0: [square(0)], 1: [square(0, 2)]}, "iou", {}, SIZE, "x")
    assert ids_of(other_category) == {0: {1: 0}, 1: {2: 0}}
    after_a_gap, _ = assign_object_ids({0: [square(0)], 1: [], 2: [square(0)]}, "iou", {}, SIZE, "x")
    assert ids_of(after_a_gap) == {0: {1: 0}, 1: {}, 2: {2: 0}}
    too_far, _ = assign_object_ids({0: [square(0)], 1: [square(5)]}, "iou", {}, SIZE, "x")
    assert ids_of(too_far)[1] == {2: 5}


def test_a_category_is_needed():
    annotation = square(0)
    annotation["category_id"] = None
    with pytest.raises(DataError, match=r"frame 3: annotation 0 has category_id None"):
        assign_object_ids({3: [annotation]}, "category", {}, SIZE, "x")
