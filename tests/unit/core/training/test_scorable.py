"""Validation that has nothing to score is refused at the start, with a remedy that is not set yet."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from sam2vt.config import Config
from sam2vt.core.training.preflight import check_scorable
from sam2vt.core.training.trainer import SAM2LightningModule
from sam2vt.core.types import Segmentations, VideoRecord
from sam2vt.errors import DataError
from sam2vt.train import train


def video(num_annotated: int, still: bool = False) -> VideoRecord:
    annotations = {i: Segmentations({1: []}) for i in range(num_annotated)}
    return VideoRecord("v", 9, 8, 8, annotations, frame_paths=("",) * 9, is_still=still)


STILLS = [video(1, still=True)] * 2
OTHER_VIDEOS, DENSER = "valdataset.data_path to real videos", "more densely annotated videos"
FIRST_AND_LAST, SKIP = "valdataset.score_first_and_last=true", "trainer.limit_val_batches=0"


def refused(records: list[VideoRecord], can_skip: bool = True, **changes) -> str:
    config = Config()
    config.dataset.data_path = "images"
    for name, value in changes.items():
        part, _, field = name.rpartition("__")
        setattr(getattr(config, part) if part else config, field, value)
    with pytest.raises(DataError) as caught:
        check_scorable(config, records, can_skip)
    return str(caught.value)


def test_stills_need_videos_to_validate_on():
    message = refused(STILLS)
    assert "images, the training data, since valdataset names none: each is a still" in message
    assert OTHER_VIDEOS in message
    assert SKIP in message
    assert DENSER not in message
    assert FIRST_AND_LAST not in message


def test_a_remedy_that_is_set_is_not_given_again():
    message = refused(STILLS, valdataset__data_path="more_images")
    assert OTHER_VIDEOS not in message
    assert "valdataset's more_images: each is a still" in message
    assert "let valdataset name real videos in their place" in message
    assert FIRST_AND_LAST in refused([video(2)])
    assert "raise val_fraction" in refused([video(2)], split="time")
    assert "val_fraction" not in refused([video(2)], split="video")
    assert FIRST_AND_LAST not in refused([video(1)], valdataset__score_first_and_last=True)


def test_a_remedy_names_what_must_go_with_it():
    assert f"{OTHER_VIDEOS} and leave out split" in refused(STILLS, split="video")
    message = refused(STILLS, trainer__early_stopping_patience=3)
    assert "without validation and leave out trainer.early_stopping_patience" in message


def test_a_sweep_is_not_told_to_skip_validation():
    assert SKIP not in refused(STILLS, can_skip=False)


@pytest.mark.parametrize(
    ("records", "changes"),
    [
        ([video(3)], {}),
        ([*STILLS, video(3)], {}),
        ([video(2)], {"score_first_and_last": True}),
        (STILLS, {"limit_val_batches": 0}),
    ],
)
def test_what_can_be_scored_passes(records, changes):
    config = Config()
    config.valdataset.score_first_and_last = changes.get("score_first_and_last", False)
    config.trainer.limit_val_batches = changes.get("limit_val_batches", 1.0)
    check_scorable(config, records)


def test_training_is_refused_before_the_model_is_built(config, tmp_path, monkeypatch):
    monkeypatch.setattr(SAM2LightningModule, "_load_model", lambda self: pytest.fail("a model was built"))
    Image.new("RGB", (64, 48)).save(tmp_path / "0.png")
    square = [[4, 4, 40, 4, 40, 40]]
    coco = {
        "images": [{"id": 0, "file_name": "0.png"}],
        "annotations": [{"id": 0, "image_id": 0, "segmentation": square}],
    }
    (tmp_path / "_annotations.coco.json").write_text(json.dumps(coco))
    config.dataset.data_path = str(tmp_path)
    with pytest.raises(DataError, match="each is a still"):
        train(config)
