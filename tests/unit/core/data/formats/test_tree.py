from __future__ import annotations

import shutil

import pytest

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import find_object_ids, known_objects, load_masks
from sam2vt.core.data.writing.encoding import write_video
from sam2vt.core.types import LabelImage
from sam2vt.errors import DataError


def test_each_video_is_a_record_in_order(tree):
    root = tree({"dog": 3, "Bear": 2, "dog10": 1, "dog2": 2})
    records = load_records("video", root)
    assert [record.video_id for record in records] == ["Bear", "dog", "dog10", "dog2"]
    dog = records[1]
    assert (dog.num_frames, dog.height, dog.width) == (3, 24, 32)
    assert dog.frame_paths == tuple(str(root / f"JPEGImages/dog/{i:05d}.jpg") for i in range(3))
    assert dog.annotations == {i: LabelImage(str(root / f"Annotations/dog/{i:05d}.png")) for i in range(3)}


def test_frames_between_masks_are_not_annotated(tree):
    root = tree({"a": 11}, annotated=range(0, 11, 5), root="train")
    (record,) = load_records("auto", root)
    assert record.annotated_frames == [0, 5, 10]
    assert record.num_frames == 11


def test_the_only_split_is_found_and_several_are_refused(tree, tmp_path):
    tree({"a": 2}, root="train")
    assert load_records("auto", tmp_path)[0].video_id == "a"
    tree({"b": 2}, root="valid")
    with pytest.raises(DataError, match=r"several splits \(train, valid\).*/train"):
        load_records("auto", tmp_path)
    assert load_records("auto", tmp_path / "valid")[0].video_id == "b"


def test_a_level_of_resolution_is_passed_through(tree):
    root = tree({"a": 2, "b": 3}, level="480p")
    assert [record.video_id for record in load_records("auto", root)] == ["a", "b"]
    assert load_records("auto", root / "JPEGImages" / "480p")[1].num_frames == 3


def test_several_levels_are_refused_and_one_may_be_named(tree):
    tree({"a": 2}, level="480p")
    root = tree({"a": 3}, level="1080p")
    with pytest.raises(DataError, match=r"several levels.*480p.*data_path must name one"):
        load_records("auto", root)
    assert load_records("auto", root / "JPEGImages" / "1080p")[0].num_frames == 3


def test_frames_are_in_the_order_of_their_numbers(tmp_path, frame, mask):
    for i in (1, 2, 10):
        frame(tmp_path / f"JPEGImages/a/frame_{i}.jpg")
    mask(tmp_path / "Annotations/a/frame_10.png")
    (record,) = load_records("video", tmp_path)
    assert [path[-12:] for path in record.frame_paths] == ["/frame_1.jpg", "/frame_2.jpg", "frame_10.jpg"]
    assert record.annotated_frames == [2]


def test_masks_named_otherwise_are_matched_by_number(tmp_path, frame, mask):
    for i in range(3):
        frame(tmp_path / f"JPEGImages/a/img_{i:04d}.jpg")
    mask(tmp_path / "Annotations/a/mask-1.png")
    assert load_records("video", tmp_path)[0].annotated_frames == [1]


def test_a_subfolder_an_object_gives_its_ids(tmp_path, frame, mask):
    for i in range(3):
        frame(tmp_path / f"JPEGImages/a/{i:05d}.jpg")
    mask(tmp_path / "Annotations/a/000/00000.png", (1,))
    mask(tmp_path / "Annotations/a/007/00000.png", (5, 5))
    mask(tmp_path / "Annotations/a/007/00002.png", ())
    (record,) = load_records("auto", tmp_path)
    assert record.object_ids == (0, 7)
    assert record.annotated_frames == [0, 2]
    masks = load_masks(record, 0)
    assert {key: int(value.sum()) for key, value in masks.items()} == {0: 32, 7: 64}
    assert load_masks(record, 2) == {}
    assert known_objects(record, 2) == {7}
    assert known_objects(record, 0) == {0, 7}


def test_objects_with_names_are_numbered_from_one(tmp_path, frame, mask):
    frame(tmp_path / "JPEGImages/a/0.jpg")
    for name in ("tool", "gallbladder"):
        mask(tmp_path / f"Annotations/a/{name}/0.png")
    (record,) = load_records("auto", tmp_path)
    assert record.object_ids == (1, 2)
    assert record.object_names == {1: "gallbladder", 2: "tool"}


def test_a_video_file_stands_for_its_frames(tree, tmp_path):
    import numpy as np

    root = tree({"a": 2, "b": 4})
    shutil.rmtree(root / "JPEGImages/b")
    write_video(root / "JPEGImages/b.mp4", (np.full((24, 32, 3), 40 * i, np.uint8) for i in range(4)), 10)
    a, b = load_records("auto", root)
    assert a.video_path is None
    assert b.video_path == str(root / "JPEGImages/b.mp4")
    assert (b.video_id, b.num_frames, b.annotated_frames) == ("b", 4, [0, 1, 2, 3])


def test_davis_clip(shared_data):
    (record,) = load_records("auto", shared_data / "davis17_bmx-trees")
    assert (record.video_id, record.num_frames, record.height, record.width) == ("bmx-trees", 40, 480, 854)
    assert record.annotated_frames == list(range(40))
    assert find_object_ids(record) == (1, 2)


NFC, NFD = "Vid\u00e9o", "Vide\u0301o"  # read alike


def test_names_that_read_alike_are_one_name(tmp_path, frame, mask):
    """As a macOS disk and a server write them."""
    for folder, name in ((NFC, f"{NFD}_0"), (NFD, f"{NFC}_0")):
        root = tmp_path / ("JPEGImages" if folder == NFC else "Annotations") / folder
        (frame if folder == NFC else mask)(root / f"{name}.{'jpg' if folder == NFC else 'png'}")
    (record,) = load_records("auto", tmp_path)
    assert (record.video_id, record.annotated_frames) == (NFC, [0])
    assert record.annotations[0].path == str(tmp_path / "Annotations" / NFD / f"{NFC}_0.png")
    mask(tmp_path / "Annotations" / NFC / "0.png")
    with pytest.raises(DataError, match="two names read alike, .*: rename one"):
        load_records("auto", tmp_path)


@pytest.mark.parametrize("lists", ["ImageSets", "ImageSets/2017"])
def test_lists_of_videos_are_said_to_mean_nothing(tree, lists):
    root, notes = tree({"a": 1, "b": 1}, level="480p"), []
    assert len(load_records("auto", root, notes=notes)) == 2
    assert notes == []
    (root / lists).mkdir(parents=True)
    (root / lists / "train.txt").write_text("a\n")
    assert len(load_records("auto", root, notes=notes)) == 2
    assert "train.txt are not read; all 2 videos are taken" in notes[0]


def test_videos_without_masks_and_masks_without_videos(tree):
    root = tree({"a": 1, "b": 1})
    shutil.rmtree(root / "Annotations/b")
    with pytest.raises(DataError, match=r"Annotations: 1 of 2 videos have frames but no folder of masks: b;"):
        load_records("auto", root)
    (root / "Annotations/b").mkdir()
    with pytest.raises(DataError, match=r"Annotations/b: no mask is in it.*\.png"):
        load_records("auto", root)
    shutil.rmtree(root / "JPEGImages/b")
    with pytest.raises(DataError, match=r"1 videos have masks but no frames: b;"):
        load_records("auto", root)


def test_a_mask_of_no_frame_is_named(tree, mask):
    root = tree({"a": 2})
    mask(root / "Annotations/a/00007.png")
    with pytest.raises(DataError, match=r"1 of 3 masks belong to no frame: 00007; .*00000, 00001"):
        load_records("auto", root)


def test_folder_names_the_clip(tmp_path, frame, mask):
    for i in range(3):
        frame(tmp_path / f"my clip/JPEGImages/frame_{i:06d}.jpg")
    mask(tmp_path / "my clip/Annotations/frame_000002.png")
    (record,) = load_records("auto", tmp_path / "my clip")
    assert (record.video_id, record.num_frames, record.annotated_frames) == ("my clip", 3, [2])


def test_a_video_of_a_tree_that_is_named_alone_keeps_its_name(tree):
    root = tree({"bear": 2, "dog": 3})
    (record,) = load_records("auto", root / "JPEGImages" / "dog")
    assert (record.video_id, record.num_frames, record.annotated_frames) == ("dog", 3, [0, 1, 2])


def test_objects_in_subfolders(tmp_path, frame, mask):
    frame(tmp_path / "JPEGImages/0.jpg")
    for object_id in (3, 12):
        mask(tmp_path / f"Annotations/{object_id}/0.png")
    assert load_records("video", tmp_path)[0].object_ids == (3, 12)


def test_real_clip_is_read_from_its_frames(shared_data):
    (record,) = load_records("auto", shared_data / "pumavos_chair")
    assert (record.video_id, record.num_frames, record.height, record.width) == (
        "pumavos_chair",
        60,
        480,
        720,
    )
    assert record.frame_paths[59].endswith("frame_000059.jpg")
    assert find_object_ids(record) == (1,)
