"""What a validation says that it looked at, and of stills."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.checking.dataset import check_dataset
from sam2vt.core.data.checking.summary import format_summary, summarise
from sam2vt.core.data.checking.video import VideoCheck
from sam2vt.core.data.formats import load_records

SQUARE = [[2, 2, 10, 2, 10, 10, 2, 10]]


def look(path, depth="masks"):
    def load(faults, notes):
        return load_records("auto", path, faults=faults, notes=notes)

    found, _ = check_dataset(str(path), load, VideoCheck(depth, clip_length=4), workers=1)
    numbers = summarise(found)
    return numbers, "\n".join(format_summary(str(path), numbers, depth)), found.notes


@pytest.fixture
def video(tmp_path):
    """One of ten frames that differ."""
    for folder in ("JPEGImages", "Annotations"):
        (tmp_path / folder / "a").mkdir(parents=True)
    labels = np.zeros((24, 32), np.uint8)
    labels[4:9, 4:9] = 1
    for i in range(10):
        Image.new("RGB", (32, 24), (i, 0, 0)).save(tmp_path / f"JPEGImages/a/{i}.png")
        Image.fromarray(labels).save(tmp_path / f"Annotations/a/{i}.png")
    return tmp_path


@pytest.mark.parametrize(
    ("depth", "num_decoded", "says"),
    [
        ("headers", 0, "0 of 10 frames were decoded, and no mask was read; --read all decodes every frame"),
        (
            "masks",
            4,
            "4 of 10 frames were decoded, those of a clip in the middle of each video; "
            "--read all decodes every frame",
        ),
        ("all", 10, None),
    ],
)
def test_how_many_frames_were_decoded(video, depth, num_decoded, says):
    numbers, text, notes = look(video, depth)
    assert (numbers["decoded_frames"], numbers["frames"]) == (num_decoded, 10)
    assert f"decoding       {num_decoded} of 10 frames" in text
    assert notes == ([says] if says else [])


@pytest.fixture
def stills(tmp_path):
    """Three images of two objects each."""
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(3)]
    annotations = [{"id": n, "image_id": n // 2, "category_id": 1, "segmentation": SQUARE} for n in range(6)]
    for i in range(3):
        Image.new("RGB", (32, 24), (i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "_annotations.coco.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]})
    )
    return tmp_path


def test_stills_become_clips_of_their_own(stills):
    """They are neither too short nor without anything to track."""
    numbers, text, notes = look(stills)
    assert (numbers["videos"], numbers["stills"], numbers["clips"]) == (3, 3, 3)
    assert (numbers["objects"], numbers["promptable_objects"]) == (6, 6)
    assert numbers["decoded_frames"] == numbers["frames"] == 3
    assert "videos         3 stills (png images; 32x24)" in text
    assert "clips          any number of each still, by a moving camera" in text
    assert notes == [
        "all 3 are stills, whose clips show an image by a moving camera; J and F need videos: train with "
        "valdataset.data_path naming some, or with trainer.limit_val_batches=0"
    ]


def test_equal_stills_are_noted(stills):
    (stills / "2.png").write_bytes((stills / "0.png").read_bytes())
    assert any("image 0, image 2: are the very same frame" in note for note in look(stills)[2])


def test_videos_are_no_stills(video):
    numbers, text, _ = look(video)
    assert numbers["stills"] == 0
    assert "videos         1 (png images; 32x24)" in text
    assert "clips          7 windows that hold an annotated frame" in text
