"""Frames and masks in folders of other names, and masks beside their frames."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from PIL import Image

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.masks.loading import load_masks


def write(tmp_path, frame, mask, frames, masks, videos=("v0", "v1")):
    for video in videos:
        for i in range(3):
            frame(tmp_path / frames / video / f"{i:05d}.jpg")
            mask(tmp_path / masks / video / f"{i:05d}.png", (1, 2))
    return tmp_path


PAIRS = [("images", "masks"), ("Frame", "GT"), ("frames", "gt"), ("imgs", "labels"), ("rgb", "segmentation")]


@pytest.mark.parametrize(("frames", "masks"), PAIRS)
def test_named_folders(tmp_path, frame, mask, caplog, frames, masks):
    root = write(tmp_path, frame, mask, frames, masks)
    with caplog.at_level(logging.INFO):
        records = load_records("auto", root)
    assert [record.video_id for record in records] == ["v0", "v1"]
    assert sorted(load_masks(records[0], 0)) == [1, 2]
    assert f"because {frames} is taken for frames and {masks} for their masks" in caplog.text


def test_a_single_clip(tmp_path, frame, mask, caplog):
    with caplog.at_level(logging.INFO):
        (record,) = load_records("video", write(tmp_path / "clip", frame, mask, "images", "masks", [""]))
    assert (record.video_id, record.num_frames) == ("clip", 3)
    assert "they are the frames of one video" in caplog.text


def test_two_folders_per_video(tmp_path, frame, mask):
    for video in ("a", "b"):
        write(tmp_path / video, frame, mask, "Frame", "GT", [""])
    assert [record.video_id for record in load_records("auto", tmp_path)] == ["a", "b"]


def test_a_split_is_entered_and_several_are_refused(tmp_path, frame, mask, check_bad_input):
    write(tmp_path / "train", frame, mask, "images", "masks")
    assert len(load_records("auto", tmp_path)) == 2
    write(tmp_path / "val", frame, mask, "images", "masks")
    check_bad_input(tmp_path, ("several splits", "train, val"), "must name one")


def test_masks_in_colours(tmp_path, frame):
    frame(tmp_path / "images/v/0.png")
    (tmp_path / "masks/v").mkdir(parents=True)
    Image.new("RGB", (32, 24), (255, 0, 0)).save(tmp_path / "masks/v/0.png")
    (record,) = load_records("auto", tmp_path, colours={"tool": (255, 0, 0)})
    assert list(load_masks(record, 0)) == [1]


def test_masks_that_lose_ids_are_told(tmp_path, frame, check_bad_input):
    for folder in ("images", "masks"):
        frame(tmp_path / folder / "v/0.jpg")
    check_bad_input(tmp_path, ("masks/v", "lose ids"), "save masks as PNG")


def beside(root, frame, mask, video="clip07", frames=3):
    for i in range(frames):
        frame(root / video / f"frame_{i}_endo.png")
        mask(root / video / f"frame_{i}_endo_mask.png", (1, 2))
    return root


@pytest.mark.parametrize("above", ["", "video01"])
def test_masks_beside_frames(tmp_path, frame, mask, caplog, above):
    root = beside(tmp_path, frame, mask, f"{above}/clip07".lstrip("/"), 11)
    with caplog.at_level(logging.INFO):
        (record,) = load_records("auto", root)
    assert (record.video_id, record.num_frames) == (f"{above}/clip07".lstrip("/"), 11)
    assert record.frame_paths[-1].endswith("frame_10_endo.png")
    assert sorted(load_masks(record, 10)) == [1, 2]
    assert "frame_0_endo_mask.png is beside frame_0_endo.png" in caplog.text
    (same,) = load_records("auto", root / above / "clip07")
    assert same.frame_paths == record.frame_paths


def test_frames_beside_masks_are_in_order_of_time(tmp_path, frame, mask, check_bad_input):
    def write(folder, names):
        for place, name in enumerate(names):
            frame(tmp_path / folder / f"{name}.png")
            mask(tmp_path / folder / f"{name}_mask.png", (1 + place % 3,))
        return tmp_path / folder

    times = ["t-0.2", "t-0.12", "t0.0", "t0.12", "t0.2"]
    (record,) = load_records("auto", write("times", times))
    assert [Path(path).stem for path in record.frame_paths] == times
    assert [list(load_masks(record, place)) for place in range(5)] == [[1], [2], [3], [1], [2]]
    unclear = write("unclear", ["a2_001", "a1_002", "a3_003"])
    check_bad_input(unclear, ("unclear", "a1_002", "a2_001"), "Rename the frames")


def test_other_pictures_of_a_frame_are_noted(tmp_path, frame, mask):
    notes: list[str] = []
    frame(beside(tmp_path, frame, mask) / "clip07/frame_0_endo_color_mask.png")
    (record,) = load_records("auto", tmp_path, notes=notes)
    assert record.num_frames == 3
    assert "1 images are no frame and no mask of one: frame_0_endo_color_mask.png" in notes[0]


def test_two_masks_of_a_frame_are_refused(tmp_path, frame, mask, check_bad_input):
    mask(beside(tmp_path, frame, mask) / "clip07/frame_1_endo_gt.png")
    check_bad_input(tmp_path, ("clip07", "frame_1_endo_gt.png", "frame_1_endo_mask.png"), "remove one")


def test_a_folder_without_masks_is_not_left_out_in_silence(tmp_path, frame, mask, check_bad_input):
    frame(beside(tmp_path, frame, mask) / "clip08/frame_0.png")
    check_bad_input(tmp_path, ("no dataset", "clip07"), "set data_path to")
