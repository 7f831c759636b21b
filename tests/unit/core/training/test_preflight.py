"""Limits and intervals against the batches that there are."""

from __future__ import annotations

from typing import Any

import pytest

from sam2vt.config import Config
from sam2vt.core.training.data_module import SAM2LightningDataModule
from sam2vt.core.training.preflight import check_key_frames, check_training_length, check_validation_length
from sam2vt.core.types import Segmentations, VideoRecord
from sam2vt.errors import ConfigError, DataError


def configured(**changes: Any) -> Config:
    config = Config()
    config.dataset.clips_per_video, config.dataset.batch_size = 4, 2
    for name, value in changes.items():
        setattr(config.trainer, name, value)
    return config


TOO_SHORT = [
    ({"val_check_interval": 5}, 1, r"val_check_interval=5: an epoch has only 4 batches"),
    ({"val_check_interval": 3}, 2, r"only 2 batches on each rank \(2 videos x 4 .*2 ranks x batch_size 2"),
    ({"limit_train_batches": 2, "val_check_interval": 3}, 1, "only 2 batches"),
    ({"limit_train_batches": 0.1}, 1, r"limit_train_batches=0.1: leaves 0.1 x 4"),
    ({}, 5, r"2 videos x 4 clips_per_video = 8 clips, fewer than 5 ranks x batch_size 2 = 10"),
]


@pytest.mark.parametrize(("changes", "world_size", "message"), TOO_SHORT)
def test_an_epoch_that_is_too_short_is_refused(
    changes: dict[str, Any], world_size: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_training_length(configured(**changes), 2, world_size)


def test_an_epoch_that_suffices_passes() -> None:
    check_training_length(configured(val_check_interval=4), 2, 1)
    check_training_length(configured(val_check_interval=100, limit_val_batches=0), 2, 1)
    check_training_length(configured(val_check_interval=0.01), 2, 1)


def test_a_validation_of_less_than_a_video_is_refused() -> None:
    config = configured(limit_val_batches=0.4)
    check_validation_length(config, 3, 1)
    with pytest.raises(ConfigError, match=r"limit_val_batches=0.4: leaves 0.4 x 2 = 0.8.*clips on a rank"):
        check_validation_length(config, 3, 2)
    config.valdataset.clips_per_video = 2
    with pytest.raises(ConfigError, match="validation videos on a rank"):
        check_validation_length(config, 3, 2)
    check_validation_length(configured(limit_val_batches=0), 3, 2)
    check_validation_length(configured(limit_val_batches=1), 3, 2)


def test_fitting_is_refused_before_it_begins(config: Config) -> None:
    config.trainer.val_check_interval = 9
    SAM2LightningDataModule(config).setup("validate")
    with pytest.raises(ConfigError, match="only 3 batches"):
        SAM2LightningDataModule(config).setup("fit")


def every(gap: int) -> VideoRecord:
    annotations = {i: Segmentations({1: []}) for i in range(0, 90, gap)}
    return VideoRecord("v", 90, 8, 8, annotations, frame_paths=("",) * 90)


def test_clips_without_a_second_annotated_frame(caplog: pytest.LogCaptureFixture) -> None:
    config = Config()
    with pytest.raises(DataError) as caught:
        check_key_frames("valdataset", config.valdataset, [every(30)])
    message = str(caught.value)
    assert message.startswith("valdataset: no clip has a frame to be scored on")
    assert "set valdataset.frame_stride=30, or valdataset.video_clip_length=31" in message
    assert not caplog.records
    # With points the prompted frame is scored, and so are the clips of another video.
    check_key_frames("dataset", config.dataset, [every(30)])
    check_key_frames("valdataset", config.valdataset, [every(30), every(2)])
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "dataset: 1 of 1 videos",
        "valdataset: 1 of 2 videos",
    ]


def test_clips_that_reach_the_next_annotated_frame_pass(caplog: pytest.LogCaptureFixture) -> None:
    config = Config()
    check_key_frames("valdataset", config.valdataset, [every(4)])
    config.valdataset.frame_stride = 30
    check_key_frames("valdataset", config.valdataset, [every(30)])
    assert not caplog.records


def test_key_frames_are_checked_before_a_fit(config: Config) -> None:
    config.valdataset.frame_stride = 6  # as long as the videos
    with pytest.raises(DataError, match=r"valdataset: no clip has a frame .*3 of 3 videos .*frame_stride=1"):
        SAM2LightningDataModule(config).setup("fit")
    config.trainer.limit_val_batches = 0
    SAM2LightningDataModule(config).setup("fit")
