"""The refusal of what is no dataset: the nearest layout and what to do, not all of them."""

from __future__ import annotations

import pytest

from sam2vt.core.data.formats import load_records
from sam2vt.errors import DataError


def refusal(path, dataset_type="auto"):
    with pytest.raises(DataError) as caught:
        load_records(dataset_type, path)
    message = str(caught.value)
    assert len(message) < 600 + len(str(path)) * 3
    return message


def test_two_folders_of_the_same_names(tmp_path, frame, mask):
    for i in range(3):
        frame(tmp_path / "left/v" / f"{i}.jpg")
        mask(tmp_path / "right/v" / f"{i}.png")
    message = refusal(tmp_path)
    assert "left has the frames and right the masks, rename them to JPEGImages and Annotations" in message


def test_frames_without_masks(tmp_path, frame):
    frame(tmp_path / "clip/0.jpg")
    assert "nothing tells which are masks" in refusal(tmp_path)
    assert "It has images such as 0.jpg, but no masks" in refusal(tmp_path / "clip")
    frame(tmp_path / "tree/JPEGImages/v/0.jpg")
    assert "no masks, since there is no Annotations" in refusal(tmp_path / "tree")


def test_another_type_is_named(tree):
    assert "set dataset.dataset_type=auto" in refusal(tree({"a": 2}), "coco")


def test_datasets_in_it_are_named(tree):
    tree({"a": 2}, root="one")
    root = tree({"a": 2}, root="two").parent
    message = refusal(root)
    assert "one, two in it can be read" in message
    assert f"set data_path to {root / 'one'}" in message


@pytest.mark.parametrize("above", ["", "VOC2012"])
@pytest.mark.parametrize(
    ("folders", "renamed"),
    [
        (("SegmentationClass",), "SegmentationClass"),
        (("SegmentationObject",), "SegmentationObject"),
        (("SegmentationClass", "SegmentationObject"), "SegmentationObject"),
    ],
)
@pytest.mark.parametrize("boxes", [False, True])
def test_pascal_voc_without_a_label_map(tmp_path, frame, mask, above, folders, renamed, boxes):
    for i in range(2):
        frame(tmp_path / above / "JPEGImages" / f"{i}.jpg")
        for each in folders:
            mask(tmp_path / above / each / f"{i}.png")
    if boxes:
        (tmp_path / above / "Annotations").mkdir()
        (tmp_path / above / "Annotations/0.xml").write_text("<annotation/>")
    message = refusal(tmp_path)
    assert "Nearest is Pascal VOC" in message
    assert "write labelmap.txt beside SegmentationClass" in message
    assert f"rename {renamed} to Annotations" in message


def test_splits_in_the_two_folders(tmp_path, frame, mask):
    for split in ("train", "val"):
        frame(tmp_path / "images" / split / "v/0.jpg")
        mask(tmp_path / "masks" / split / "v/0.png")
    message = refusal(tmp_path)
    assert "images and masks hold the splits train, val" in message
    assert (
        f"move images/train to train/images and masks/train to train/masks, and set data_path to {tmp_path}"
        in message
    )
    for each in ("images", "masks"):
        (tmp_path / "train" / each).parent.mkdir(exist_ok=True)
        (tmp_path / each / "train").rename(tmp_path / "train" / each)
    assert len(load_records("auto", tmp_path / "train")) == 1


def test_two_folders_that_may_be_the_masks(tmp_path, frame, mask):
    frame(tmp_path / "images/v/0.jpg")
    for each in ("labels", "masks"):
        mask(tmp_path / each / "v/0.png")
    message = refusal(tmp_path)
    assert "masks in labels, masks: which are meant is not clear" in message


def test_json_files_of_frames_elsewhere(tmp_path, frame):
    (tmp_path / "json").mkdir()
    for i in range(3):
        frame(tmp_path / "clip" / f"{i}.jpg")
        (tmp_path / "json" / f"{i}.json").write_text('{"shapes": []}')
    assert "json has JSON files with the names of images in clip. Move them to clip" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("a.jpg", "a.txt"), "YOLO"),
        (("a.xml",), "CVAT for video 1.1"),
        (("a.gif.y4m",), "convert it with ffmpeg"),
        (("notes.txt",), "The simplest layout is JPEGImages/<video>/00000.jpg"),
    ],
)
def test_files_tell_what_it_may_be(tmp_path, names, says):
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    assert says in refusal(tmp_path)


def test_a_file(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    assert "A file that is a dataset is a JSON" in refusal(tmp_path / "notes.txt")
