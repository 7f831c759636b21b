"""Prompts from folders of masks, and from a dataset's first masks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.formats.layout import ReadOptions
from sam2vt.core.data.masks.rle import encode_mask
from sam2vt.core.prediction.mask_prompts import first_masks, prompts_from_masks
from sam2vt.core.types import Segmentations, VideoRecord
from sam2vt.errors import DataError

HEIGHT, WIDTH = 12, 16


def labels(*ids, shape=(HEIGHT, WIDTH)):
    """An image that shows each id as a square."""
    pixels = np.zeros(shape, dtype=np.uint8)
    for place, each in enumerate(ids):
        pixels[2:6, 4 * place : 4 * place + 3] = each
    return pixels


def save(path, pixels, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if palette:
        image.putpalette(palette)
    image.save(path)


def shown(prompts, video="clip", num_frames=20):
    found = prompts.for_video(video, HEIGHT, WIDTH, num_frames)
    return {(each.frame, each.object_id): int(each.mask.sum()) for each in found.prompts}


def test_label_images_of_a_single_video(tmp_path):
    save(tmp_path / "00012.png", labels(2, 7))
    save(tmp_path / "3.png", labels(2))
    prompts = prompts_from_masks(str(tmp_path), {"clip": None})
    prompts.check_videos(["clip"])
    assert shown(prompts) == {(3, 2): 12, (12, 2): 12, (12, 7): 12}
    assert shown(prompts, num_frames=None).keys() == {(3, 2), (12, 2), (12, 7)}
    found = prompts.for_video("clip", HEIGHT, WIDTH, 20)
    assert found.prompts[0].where.endswith("3.png: video clip, object 2, frame 3")
    assert np.array_equal(found.prompts[1].mask, labels(2, 7) == 2)


def test_folders_per_video_with_named_frames(tmp_path):
    save(tmp_path / "a" / "frame_b.png", labels(1))
    save(tmp_path / "b" / "00001.png", labels(1))
    videos = {"a": ["frame_a", "frame_b"], "b": ["00000", "00001"]}
    prompts = prompts_from_masks(str(tmp_path), videos)
    assert shown(prompts, "a").keys() == shown(prompts, "b").keys() == {(1, 1)}


def test_a_folder_per_object(tmp_path):
    for video in ("", "clip"):
        save(tmp_path / f"in{video}" / video / "4" / "00002.png", labels(255))
        save(tmp_path / f"in{video}" / video / "9" / "00005.png", labels(255))
        prompts = prompts_from_masks(str(tmp_path / f"in{video}"), {"clip": None})
        assert shown(prompts).keys() == {(2, 4), (5, 9)}


def test_folders_named_by_objects(tmp_path):
    for name in ("cup", "hand"):
        save(tmp_path / "clip" / name / "0.png", labels(255))
    found = prompts_from_masks(str(tmp_path), {"clip": None}).for_video("clip", HEIGHT, WIDTH, 1)
    assert found.names == {1: "cup", 2: "hand"}


def test_masks_by_colour(tmp_path):
    save(tmp_path / "0.png", labels(5), palette=[0, 0, 0] * 5 + [200, 0, 0])
    prompts = prompts_from_masks(str(tmp_path), {"clip": None}, ReadOptions(colours="palette"))
    assert shown(prompts) == {(0, 1): 12}


BOTH = {"a": None, "b": None}
# (files, videos, what the message says)
BAD = {
    "no folder": ({}, {"clip": None}, ["masks: is no folder", "--masks"]),
    "nothing in it": ({"x.txt": None}, {"clip": None}, ["no mask is in it"]),
    "JPEG": ({"0.jpg": labels(1)}, {"clip": None}, ["no mask is in it", "lose ids", "PNG"]),
    "no number": ({"x.png": labels(1)}, {"clip": None}, ["do not tell which frames", "x", "00012"]),
    "times": ({"0.0.png": labels(1), "0.04.png": labels(1)}, {"clip": None}, ["do not tell which frames"]),
    "same number": ({"1.png": labels(1), "01.png": labels(1)}, {"clip": None}, ["do not tell which frames"]),
    "unknown stem": ({"c.png": labels(1)}, {"clip": ["a", "b"]}, ["belong to no frame: c", "are a, b"]),
    "video missing": ({"a/0.png": labels(1)}, BOTH, ["1 of 2 videos", "not in it: b; add them"]),
    "masks of which": ({"0.png": labels(1)}, BOTH, ["2 of 2 videos", "not in it: a, b"]),
    "unknown video": (
        {"a/0.png": labels(1), "b/0.png": labels(1), "b2/0.png": labels(1)},
        BOTH,
        ["'b2' is not in the source, did you mean b?"],
    ),
    "other video": (
        {"clip2/0.png": labels(1)},
        {"clip": None},
        ["has a folder clip2, but the video is clip"],
    ),
    "leads out": ({"a/0.png": labels(1)}, {"../x": None, "a": None}, ["not in it: ../x"]),
    "mixed": ({"0.png": labels(1), "1/0.png": labels(1)}, {"clip": None}, ["both masks", "subfolders"]),
}


@pytest.mark.parametrize(("files", "videos", "parts"), BAD.values(), ids=BAD)
def test_folders_that_do_not_fit_the_videos(tmp_path, files, videos, parts):
    folder = tmp_path / "masks"
    for name, pixels in files.items():
        if pixels is None:
            folder.mkdir()
        else:
            save(folder / name, pixels)
    save(tmp_path / "x" / "0.png", labels(1))
    with pytest.raises(DataError) as caught:
        prompts_from_masks(str(folder), videos)
    message = str(caught.value)
    assert [each for each in [*parts, "masks"] if each not in message] == [], message


BAD_MASKS = {
    "late": ({"20.png": labels(1)}, ["video clip, frame 20", "20 frames", "0 to 19"]),
    "size": ({"3.png": labels(1, shape=(16, 12))}, ["frame 3", "12x16", "16x12", "resize"]),
    "empty": ({"3.png": labels()}, ["video clip", "none of its 1 masks shows an object"]),
    "colours": ({"3.png": np.zeros((HEIGHT, WIDTH, 3), np.uint8)}, ["frame 3", "RGB", "save the ids"]),
    "several in one": ({"5/3.png": labels(1, 2)}, ["frame 3", "object 5", "values [1, 2]"]),
}


@pytest.mark.parametrize(("files", "parts"), BAD_MASKS.values(), ids=BAD_MASKS)
def test_masks_that_do_not_fit_the_frames(tmp_path, files, parts):
    for name, pixels in files.items():
        save(tmp_path / name, pixels)
    prompts = prompts_from_masks(str(tmp_path), {"clip": None})
    with pytest.raises(DataError) as caught:
        prompts.for_video("clip", HEIGHT, WIDTH, 20)
    message = str(caught.value)
    assert [each for each in [*parts, str(tmp_path)] if each not in message] == [], message
    assert caught.value.place["video"] == "clip"


def test_all_faults_of_the_masks_in_one_message(tmp_path):
    for frame in (1, 30):
        save(tmp_path / f"{frame}.png", labels(1, shape=(9, 9)))
    prompts = prompts_from_masks(str(tmp_path), {"clip": None})
    with pytest.raises(DataError, match="2 faults"):
        prompts.for_video("clip", HEIGHT, WIDTH, 20)


def record_of(frames, **fields):
    annotations = {
        frame: Segmentations({key: [encode_mask(mask)] for key, mask in masks.items()})
        for frame, masks in frames.items()
    }
    size = (HEIGHT, WIDTH)
    return VideoRecord("bear", 9, *size, annotations, video_path="bear.mp4", source="data.json", **fields)


def test_first_masks_of_a_dataset():
    cup, hand = labels(1) > 0, labels(0, 1) > 0
    record = record_of(
        {2: {3: cup}, 4: {3: hand, 1: hand, 8: ~(cup | ~cup)}, 5: {1: cup}},
        object_ids=(1, 3),
        object_names={3: "cup", 9: "none"},
        frame_range=(1, 9),
    )
    found = first_masks(record)
    assert [(each.frame, each.object_id) for each in found.prompts] == [(2, 3), (4, 1)]
    assert np.array_equal(found.prompts[0].mask, cup)
    assert np.array_equal(found.prompts[1].mask, hand)
    assert found.names == {3: "cup"}
    assert found.prompts[0].where == "data.json: video bear, object 3, frame 2"


def test_a_dataset_without_a_visible_object():
    with pytest.raises(DataError, match=r"bear.*no object is visible"):
        first_masks(record_of({2: {1: np.zeros((HEIGHT, WIDTH), bool)}}))
