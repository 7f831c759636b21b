"""A COCO JSON beside a video file whose frames were never extracted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.data.writing.encoding import write_video

SIZE = (24, 32)
SQUARE = [[2, 2, 10, 2, 10, 10, 2, 10]]


@pytest.fixture
def export(tmp_path):
    """The frames of one video by these numbers, and a video file of so many frames."""

    def write(numbers, num_frames, film="film.mp4", json_name="annotations.json", videos=("clip",)):
        images = [
            {
                "id": f"{video}{i}",
                "video_id": video,
                "file_name": f"{video}/frame_{i:06d}.PNG",
                "height": 24,
                "width": 32,
            }
            for video in videos
            for i in numbers
        ]
        annotations = [
            {"id": i, "image_id": each["id"], "track_id": 5, "category_id": "1", "segmentation": SQUARE}
            for i, each in enumerate(images)
        ]
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": "cystic_duct"}],
        }
        (tmp_path / json_name).parent.mkdir(exist_ok=True)
        (tmp_path / json_name).write_text(json.dumps(content))
        frames = [np.full((*SIZE, 3), 20 * t, np.uint8) for t in range(num_frames)]
        write_video(tmp_path / film, frames, fps=25)
        return tmp_path

    return write


@pytest.mark.parametrize("json_name", ["annotations.json", "annotations/instances_default.json"])
def test_as_many_images_as_frames_are_in_order(export, json_name):
    notes: list[str] = []
    (record,) = load_records("auto", export(range(1, 5), 4, json_name=json_name), notes=notes)
    assert record.video_path.endswith("film.mp4")
    assert sorted(record.annotations) == [0, 1, 2, 3]
    assert read_frames(record, [0]).mean() < 10
    assert load_masks(record, 3)[5].any()
    assert record.object_names == {5: "cystic_duct"}
    assert "frame_000001.PNG does not exist; frames are read from" in notes[0]


@pytest.mark.parametrize(
    ("numbers", "frames"),
    [([0, 3, 6], [0, 3, 6]), ([0, 7], [0, 7]), ([1, 5, 8], [0, 4, 7]), ([4, 8], [3, 7]), ([2, 4], [2, 4])],
)
def test_fewer_images_have_their_numbers(export, numbers, frames):
    """From 1 where the last is the number of frames, which is no index."""
    notes: list[str] = []
    (record,) = load_records("auto", export(numbers, 8), notes=notes)
    assert sorted(record.annotations) == frames
    assert f"frame_{numbers[0]:06d} is frame {frames[0]}, from 0" in notes[-1]


def test_a_file_is_found_by_the_name_of_its_video(export):
    root = export(range(2), 2, film="b.mp4", videos=("a", "b"))
    write_video(root / "a.mp4", [np.zeros((*SIZE, 3), np.uint8)] * 2, fps=25)
    first, second = load_records("auto", root)
    assert (first.video_path[-5:], second.video_path[-5:]) == ("a.mp4", "b.mp4")


@pytest.mark.parametrize(
    ("numbers", "num_frames", "options", "says", "remedy"),
    [
        ([0, 9], 4, {}, ("none of its 2 image files exists", "has 4 frames"), "extract the frames"),
        ([1, 3, 5], 8, {}, ("from the names clip/frame_000001",), "begin at 0 or end at 8"),
        ([0, 4, 8], 8, {}, ("not clear from the names",), "begin at 0 or end at 8"),
        ([0, 1], 2, {"videos": ("a", "b")}, ("2 of 2 image files do not exist",), "Put the files there"),
    ],
)
def test_what_is_not_clear_is_refused(export, check_bad_input, numbers, num_frames, options, says, remedy):
    check_bad_input(export(numbers, num_frames, **options), says, remedy)


def test_a_film_of_another_size(export, check_bad_input):
    root = export(range(2), 2)
    write_video(root / "film.mp4", [np.zeros((48, 64, 3), np.uint8)] * 2, fps=25)
    check_bad_input(root, ("states height x width 24 x 32", "48 x 64"), "use the frames of that size")
