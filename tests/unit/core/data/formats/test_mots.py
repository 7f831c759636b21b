"""MOTS PNG: 16 bit values that are class * 1000 + instance."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.checking.video import VideoCheck
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks, load_void
from sam2vt.core.data.records.serialization import decode_record, encode_record
from sam2vt.core.data.writing.convert import convert

SIZE = (24, 32)
CAR, WALKER, IGNORED = 1001, 2003, 10000


def write_instances(path, values=(CAR, WALKER, IGNORED), dtype=np.uint16, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size, dtype)
    for place, value in enumerate(values):
        pixels[4:12, 8 * place : 8 * place + 6] = value
    Image.fromarray(pixels).save(path)


@pytest.fixture
def mots(tmp_path, frame):
    """Two sequences of two frames."""

    def write(frames="images"):
        for sequence in ("0002", "0005"):
            for i in range(2):
                frame(tmp_path / frames / sequence / f"{i:06d}.png")
                write_instances(tmp_path / "instances" / sequence / f"{i:06d}.png")
        return tmp_path

    return write


@pytest.mark.parametrize("frames", ["images", "training/image_02"])
def test_objects_are_the_values(mots, frames):
    root = mots(frames)
    first, second = load_records("auto", root)
    assert (first.video_id, second.video_id) == ("0002", "0005")
    pixels = np.asarray(Image.open(root / "instances/0002/000000.png"))
    masks = load_masks(first, 0)
    assert sorted(masks) == [CAR, WALKER]
    assert all(np.array_equal(mask, pixels == value) for value, mask in masks.items())
    assert np.array_equal(load_void(first, 0), pixels == IGNORED)
    assert decode_record(encode_record(first)) == first


def test_one_sequence_without_its_folder(tmp_path, frame):
    frame(tmp_path / "images/a_1.jpg")
    write_instances(tmp_path / "instances/a_1.png", (1001, 3001))
    (tmp_path / "instances/labels.txt").write_text("cell\nnucleus\nvessel\n")
    (record,) = load_records("mots", tmp_path)
    assert record.video_id == tmp_path.name
    assert sorted(load_masks(record, 0)) == [1001, 3001]


@pytest.mark.parametrize("target", ["davis-objects", "coco"])
def test_classes_are_names_of_objects(mots, tmp_path, target):
    records = load_records("auto", mots())
    named = {CAR: "car", WALKER: "pedestrian"}
    assert records[0].names_of([CAR, WALKER, 7]) == named
    assert {key: each.name for key, each in VideoCheck()(records[0]).objects.items()} == named
    convert(records, str(tmp_path / "out"), target, lossy=True)  # void
    assert [each.object_names for each in load_records("auto", tmp_path / "out")] == [named, named]


def test_a_tree_with_such_a_folder_stays_a_tree(tree):
    root = tree({"a": 2})
    (root / "instances").mkdir()
    (record,) = load_records("auto", root)
    assert record.video_id == "a"


def no_frames(root):
    (root / "images").rename(root / "pictures")


def a_sequence_less(root):
    (root / "images/0005").rename(root / "0005")


def masks_less(root):
    (root / "instances/0002").rename(root / "0002")


def no_masks(root):
    for path in (root / "instances").glob("*/*"):
        path.unlink()


def mixed(root):
    write_instances(root / "instances/000000.png")


def put(name, *arguments, **options):
    return lambda root: write_instances(root / "instances" / name, *arguments, **options)


def label_file(text):
    return lambda root: (root / "instances/labels.txt").write_bytes(text)


@pytest.mark.parametrize(
    ("change", "says", "remedy"),
    [
        (no_frames, ("MOTS masks in instances", "training/image_02"), "put the frames into"),
        (a_sequence_less, ("1 of 2 sequences", "0005"), "add them, or remove the sequence"),
        (masks_less, ("1 of 2 sequences", "0002"), "add them, or remove the sequence"),
        (no_masks, ("instances/0002", "no mask is in it"), "Allowed are"),
        (mixed, ("instances", "has no images itself"), "move the files"),
        (put("0002/000009.png"), ("1 of 3 masks", "000009"), "named as their frames"),
        (
            put("0002/000001.png", (5001,)),
            ("000001.png", "5001 is of class 5", "1 car"),
            "instances/labels.txt",
        ),
        (put("0002/000001.png", (7,)), ("000001.png", "7 is of class 0"), "correct the mask"),
        (
            put("0002/000001.png", (1, 2), np.uint8),
            ("000001.png", "8 bits a pixel"),
            "export the masks as 16",
        ),
        (put("0002/000001.png", size=(9, 9)), ("000001.png", "9x9", "frame 1"), "resize the mask"),
        (label_file(b""), ("labels.txt", "is empty"), "one per line"),
        (label_file(b"car\ncar\n"), ("labels.txt", "names a class twice"), "each class once"),
        (label_file(b"\xff\xff"), ("labels.txt", "cannot be read as text"), "write one class name per line"),
    ],
)
def test_bad_sequences(mots, check_bad_input, change, says, remedy):
    root = mots()
    change(root)
    check_bad_input(root, says, remedy)
