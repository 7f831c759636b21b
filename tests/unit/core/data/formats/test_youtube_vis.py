"""YouTube-VIS and OVIS: a JSON of videos with a segmentation a frame and object."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import known_objects, load_masks

SIZE, NUM_FRAMES = (24, 32), 3
POLYGON = [[4, 4, 20, 4, 20, 16, 4, 16]]
JSON = "train.json"


@pytest.fixture
def vis(tmp_path, frame):
    """One video of two objects, the second absent at first; `change` edits what is written."""

    def write(change=None, frames="train/JPEGImages"):
        names = [f"clip/{i:05d}.jpg" for i in range(NUM_FRAMES)]
        mask = np.zeros(SIZE, np.uint8)
        mask[10:20, 2:9] = 1
        rle = coco_mask.encode(np.asfortranarray(mask))
        compressed = {"size": list(SIZE), "counts": rle["counts"].decode()}
        data = {
            "videos": [{"id": 1, "file_names": names, "height": 24, "width": 32, "length": NUM_FRAMES}],
            "annotations": [
                {"id": 1, "video_id": 1, "category_id": 3, "segmentations": [POLYGON] * NUM_FRAMES},
                {"id": 2, "video_id": 1, "category_id": 9, "segmentations": [None, compressed, compressed]},
            ],
            "categories": [{"id": 3, "name": "fish"}],
        }
        if change:
            change(data)
        for name in names:
            frame(tmp_path / frames / name)
        (tmp_path / JSON).write_text(json.dumps(data))
        return tmp_path

    return write


@pytest.mark.parametrize("frames", ["train/JPEGImages", "JPEGImages", "train", ""])
def test_frames_are_found_where_the_datasets_keep_them(vis, frames):
    (record,) = load_records("auto", vis(frames=frames) / JSON)
    assert (record.video_id, record.num_frames, record.height, record.width) == ("clip", 3, *SIZE)
    assert record.object_ids == (1, 2)
    assert record.object_names == {1: "fish", 2: "category 9"}


def test_null_is_known_to_be_absent(vis):
    (record,) = load_records("coco", vis())
    assert list(record.annotations) == [0, 1, 2]
    assert sorted(load_masks(record, 0)) == [1]
    assert known_objects(record, 0) is None  # all objects are known there
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(POLYGON, *SIZE))).astype(bool)
    assert np.array_equal(load_masks(record, 1)[1], expected)
    assert load_masks(record, 1)[2][10:20, 2:9].all()


@pytest.mark.parametrize(
    ("folders", "video_ids"),
    [
        (("a", "b"), ["a", "b"]),
        (("a/v1", "b/v1"), ["a/v1", "b/v1"]),
        (("a/v1", "b\\v2"), ["v1", "v2"]),
        (("v1", "v1"), ["v1/1", "v1/2"]),
        (("", ""), ["1", "2"]),
        (("", "v1"), ["1", "v1"]),
    ],
)
def test_videos_are_called_by_their_folders(vis, frame, tmp_path, folders, video_ids):
    def change(data):
        data["videos"] = [
            {"id": i, "file_names": [f"{folder}/{j}.jpg".lstrip("/") for j in range(NUM_FRAMES)]}
            for i, folder in enumerate(folders, start=1)
        ]
        for i, annotation in enumerate(data["annotations"], start=1):
            annotation["video_id"] = i
        for name in (name for video in data["videos"] for name in video["file_names"]):
            frame(tmp_path / name.replace("\\", "/"))

    assert [record.video_id for record in load_records("auto", vis(change))] == video_ids


def video(**fields):
    return lambda data: data["videos"][0].update(fields)


def annotation(**fields):
    return lambda data: data["annotations"][1].update(fields)


@pytest.mark.parametrize(
    ("change", "says", "remedy"),
    [
        (lambda d: d.pop("annotations"), (JSON, "annotations is 'None'"), "The test sets come without"),
        (lambda d: d["videos"].clear(), (JSON, "videos is empty"), "at least one video"),
        (lambda d: d["videos"].append(5), (JSON, "videos[1] is '5'"), "an object of fields"),
        (lambda d: d["annotations"].append("x"), (JSON, "annotations[2] is 'x'"), "an object of fields"),
        (lambda d: d["annotations"].clear(), (JSON, "video 1", "has no annotation"), "leave the video out"),
        (lambda d: d.update(categories=7), (JSON, "categories is a int"), "a list of objects"),
        (lambda d: d.update(categories=["fish"]), (JSON, "categories[0] is 'fish'"), "an object of fields"),
        (lambda d: d["videos"].append(dict(d["videos"][0])), (JSON, "the id 1"), "ids must be unique"),
        (video(id=None), (JSON, "videos[0] has id None"), "needs a number"),
        (video(file_names=[]), (JSON, "video 1", "file_names is '[]'"), "list the video's frames in order"),
        (video(file_names=[1, 2, 3]), (JSON, "file_names is '[1, 2, 3]'"), "in order"),
        (video(length=7), (JSON, "video 1", "length is '7'", "has 3"), "correct one"),
        (video(height=99), (JSON, "video 1", "99 x 32"), "use the frames of that size"),
        (video(file_names=["a.jpg", "b.jpg", "c.jpg"]), (JSON, "3 of 3", "a.jpg"), "set dataset.image_root"),
        (video(file_names=["../../../etc/passwd"], length=1), (JSON, "outside"), "set dataset.image_root"),
        (video(file_names=["/etc/passwd"], length=1), (JSON, "/etc/passwd"), "allow_absolute_paths=true"),
        (annotation(video_id=8), (JSON, "annotations[1] (id 2)", "'8'"), "add the video or remove"),
        (annotation(video_id=[1]), (JSON, "annotations[1] (id 2)", "'[1]'"), "add the video or remove"),
        (annotation(segmentations=[None]), (JSON, "annotation 2 has 1 seg", "3 frames"), "null where"),
        (annotation(segmentations="x"), (JSON, "annotation 2 has 'x'"), "one per frame"),
        (annotation(segmentations=[None, 5, None]), (JSON, "frame 1", "object 2", "'5'"), "allowed are"),
        (annotation(segmentations=[[[1, 2]], None, None]), (JSON, "frame 0, object 2"), "at least 3 points"),
    ],
)  # fmt: skip
def test_bad_files(vis, check_bad_input, change, says, remedy):
    check_bad_input(vis(change), says, remedy)


def test_identity_means_nothing_here(vis, check_bad_input):
    check_bad_input(
        vis(),
        ("identity=iou means nothing to YouTube-VIS JSON",),
        "leave out dataset.identity (--identity)",
        identity="iou",
    )


def test_a_link_out_of_the_folder_is_refused(vis, tmp_path, check_bad_input):
    root = vis()
    outside = tmp_path.parent / f"{tmp_path.name}_outside.jpg"
    first = root / "train/JPEGImages/clip/00000.jpg"
    first.rename(outside)
    first.symlink_to(outside)
    check_bad_input(root, (JSON, "clip/00000.jpg is outside", outside), "set dataset.allow_absolute_paths")
    assert load_records("auto", root, allow_absolute_paths=True)
