"""COCO JSON without videos: stills, and CVAT's export of a video, whose annotations carry track ids."""

from __future__ import annotations

import json

import pytest

from sam2vt.core.data.clips.drawing import draw_clip
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.types import SampleKey

POLYGON = [[4, 4, 20, 4, 20, 16, 4, 16]]
JSON = "_annotations.coco.json"


@pytest.fixture
def images(tmp_path, frame):
    """Three images, two objects in the first, one in the second; `change` edits the content."""

    def write(change=None, folder=tmp_path, name=JSON):
        data = {
            "images": [
                {"id": i, "file_name": f"a_{i}_jpg.rf.0{i}f.jpg", "height": 24, "width": 32} for i in range(3)
            ],
            "annotations": [
                {"id": n, "image_id": image, "category_id": 1, "segmentation": POLYGON}
                for n, image in enumerate((0, 0, 1))
            ],
            "categories": [{"id": 1, "name": "cell"}],
        }
        for image in data["images"]:
            frame(folder / image["file_name"])
        if change:
            change(data)
        (folder / name).write_text(json.dumps(data))
        return folder

    return write


def test_each_annotated_image_is_a_still(images):
    first, second = load_records("auto", images())
    assert (first.video_id, second.video_id) == ("image 0", "image 1")
    assert first.is_still
    assert first.object_names == {1: "cell", 2: "cell"}
    assert sorted(load_masks(first, 0)) == [1, 2]
    clip = draw_clip([first, second], SampleKey(0, 0), ClipSpec((32, 32), 4, PromptGenerator(["mask"])))
    assert clip["images"].shape == (4, 3, 32, 32)
    assert clip["valid_masks"].all()


def test_splits_of_roboflow(images, tmp_path, check_bad_input):
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        images(folder=tmp_path / split)
    check_bad_input(tmp_path, ("train, valid", "Roboflow"), f"such as {tmp_path / 'train'}")
    assert len(load_records("auto", tmp_path / "train")) == 2


def cvat(data):
    """CVAT numbers frames by their names, and knows tracks."""
    for i, image in enumerate(data["images"]):
        image["file_name"] = f"a_{i}_jpg.rf.0{i}f.jpg"
    for annotation, track in zip(data["annotations"], (5, 6, 5)):
        annotation["attributes"] = {"occluded": False, "track_id": track}


def test_tracks_without_video_ids_are_one_video(images):
    (record,) = load_records("auto", images(cvat, name="instances_default.json"))
    assert (record.video_id, record.num_frames, record.object_ids) == ("video", 3, (5, 6))
    assert sorted(load_masks(record, 0)) == [5, 6]
    assert list(record.annotations) == [0, 1]


@pytest.mark.parametrize("place", ["images/default", "images", "annotations"])
def test_an_export_of_cvat_as_it_is_unpacked(images, tmp_path, place):
    (tmp_path / "annotations").mkdir()
    images(cvat, folder=tmp_path / "annotations", name="instances_default.json")
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for path in (tmp_path / "annotations").glob("*.jpg"):
        path.rename(tmp_path / place / path.name)
    (record,) = load_records("auto", tmp_path)
    assert (record.video_id, record.object_ids) == ("video", (5, 6))
    assert record.frame_paths[0].startswith(str(tmp_path / place))


def image(**fields):
    return lambda data: data["images"][0].update(fields)


def annotation(**fields):
    return lambda data: data["annotations"][2].update(fields)


@pytest.mark.parametrize(
    ("change", "says", "remedy"),
    [
        (lambda d: d.pop("images"), (JSON, "images"), "Allowed is an object with images"),
        (lambda d: d.update(images={}), (JSON, "images"), "Allowed is an object"),
        (lambda d: d["annotations"].clear(), (JSON, "none of its 3 images has"), "annotate some"),
        (lambda d: d["images"].append(3), (JSON, "images[3] is '3'"), "an object of fields"),
        (lambda d: d.update(categories=[[1]]), (JSON, "categories[0]"), "an object of fields"),
        (image(id=1), (JSON, "two images have the id 1"), "ids must be unique"),
        (image(id={}), (JSON, "images[0] has id {}"), "needs a number or name"),
        (image(file_name="b.jpg"), (JSON, "image 0", "b.jpg"), "set dataset.image_root"),
        (image(file_name=None), (JSON, "image 0", "neither path nor file_name"), ""),
        (image(file_name="/etc/hostname"), (JSON, "/etc/hostname"), "allow_absolute_paths=true"),
        (image(file_name="../../../../../etc/hostname"), (JSON, "is outside"), "allow_absolute_paths"),
        (image(file_name="a\0b"), (JSON, "zero character"), "export the annotation again"),
        (image(height=99), (JSON, "image 0", "99 x 32"), "one size"),
        (annotation(image_id=77), (JSON, "annotations[2] (id 2)", "77"), "images does not list"),
        (annotation(segmentation=[]), (JSON, "annotations[2]", "no segmentation"), "boxes alone are not"),
        (annotation(segmentation=[[1, 2, 3]]), (JSON, "object 1", "polygon 0"), "at least 3 points"),
        (annotation(segmentation={"size": [1, 1], "counts": [1]}), (JSON, "object 1"), "size of their"),
    ],
)  # fmt: skip
def test_bad_images(images, check_bad_input, change, says, remedy):
    check_bad_input(images(change), says, remedy)


@pytest.mark.parametrize(
    ("change", "says", "remedy"),
    [
        (lambda d: d["annotations"][0].pop("attributes"), ("annotation 0",), "Add one, or choose"),
        (
            lambda d: d["images"][0].update(video_id=3),
            ("images[1]", "video_id None"),
            "every image of a COCO",
        ),
        (lambda d: d["images"][2].update(height=5), ("image 2", "5 x 32"), "one size"),
        (lambda d: d["images"][1].update(frame_id=3), ("video video", "frame_id None"), "in every image"),
    ],
)
def test_bad_exports_of_cvat(images, check_bad_input, change, says, remedy):
    def both(data):
        cvat(data)
        change(data)

    check_bad_input(images(both), says, remedy)
