"""Limits and intervals against the batches that there are."""

from __future__ import annotations

from typing import Any

import pytest

from sam2vt.config import Config
from sam2vt.core.training.data_module import SAM2LightningDataModule
from sam2vt.core.training.preflight import check_training_length, check_validation_length
from sam2vt.errors import ConfigError


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
