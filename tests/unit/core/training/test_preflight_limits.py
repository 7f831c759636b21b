"""What a run's data just suffices for, what is one too many, and which words an error uses."""

from __future__ import annotations

from typing import Any

import pytest

from sam2vt.config import Config, DatasetConfig, SchedulerConfig, ValDatasetConfig
from sam2vt.configuration.mixture import Member
from sam2vt.core.data.records.mixture import Mixture
from sam2vt.core.training.preflight import (
    check_key_frames,
    check_scorable,
    check_training,
    check_training_length,
    check_validation_length,
    check_warm_up,
)
from sam2vt.core.types import Segmentations, VideoRecord
from sam2vt.errors import ConfigError, DataError


def every(gap: int, num_frames: int = 90, still: bool = False) -> VideoRecord:
    """A video that is annotated every so many frames."""
    annotations = {i: Segmentations({1: []}) for i in range(0, num_frames, gap)}
    return VideoRecord(
        "v", num_frames, 8, 8, annotations, frame_paths=("",) * num_frames, source="f", is_still=still
    )


def configured(**trainer: Any) -> Config:
    config = Config()
    config.dataset.data_path = "train"
    for name, value in trainer.items():
        setattr(config.trainer, name, value)
    return config


@pytest.mark.parametrize(
    ("world_size", "limit", "batches"),
    [(2, 1.0, 5), (2, 0.5, 2), (2, 3, 3), (2, 9, 5), (1, 1.0, 10), (5, 1.0, 2)],
)
@pytest.mark.parametrize("limit_val", [1.0, 1, 0.5])
def test_an_interval_may_be_as_long_as_an_epoch(
    world_size: int, limit: float, batches: int, limit_val: float
) -> None:
    """7 videos x 3 clips fill 5 steps of 2 x 2, 10 of 1 x 2, 2 of 5 x 2."""
    config = configured(limit_train_batches=limit, limit_val_batches=limit_val)
    config.dataset.clips_per_video, config.dataset.batch_size = 3, 2
    config.trainer.val_check_interval = batches
    check_training_length(config, 7, world_size)
    config.trainer.val_check_interval = batches + 1
    with pytest.raises(ConfigError, match=f"an epoch has only {batches} batches on each rank"):
        check_training_length(config, 7, world_size)
    config.trainer.limit_val_batches = 0
    check_training_length(config, 7, world_size)


@pytest.mark.parametrize(
    ("enabled", "length", "warm_up", "refused"),
    [
        (True, None, 5, False),
        (True, None, 6, True),
        (False, None, 6, False),
        (True, 9, 6, False),
        (False, 9, 6, False),
    ],
)
def test_a_warm_up_may_be_as_long_as_the_run(
    enabled: bool, length: int | None, warm_up: int, refused: bool
) -> None:
    scheduler = SchedulerConfig(enabled=enabled, T_max=length, warmup_steps=warm_up)
    if refused:
        with pytest.raises(ConfigError, match="warmup_steps=6: the run has 5 optimizer steps.*at most 5"):
            check_warm_up(scheduler, 5)
    else:
        check_warm_up(scheduler, 5)


@pytest.mark.parametrize(
    ("videos", "clips", "batch_size", "world_size", "limit", "fault"),
    [
        (5, 2, 4, 2, 0.5, None),  # 3 batches and 5 videos, at most 2 and 3 on a rank
        (5, 2, 4, 2, 0.4, r"leaves 0.4 x 2 = 0.8, .* validation clips on a rank"),
        (5, 2, 4, 1, 0.34, None),
        (5, 2, 4, 1, 0.3, r"leaves 0.3 x 3 = 0.9, .* validation clips on a rank"),
        (3, 2, 1, 2, 0.4, r"leaves 0.4 x 2 = 0.8, .* validation videos on a rank"),
        (7, 1, 2, 1, 0.2, r"leaves 0.2 x 4 = 0.8, .* validation clips on a rank"),
        (7, 1, 2, 1, 1, None),
        (7, 1, 2, 1, 0, None),
    ],
)
def test_a_share_of_the_validation_is_a_batch_at_least(
    videos: int, clips: int, batch_size: int, world_size: int, limit: float, fault: str | None
) -> None:
    config = configured(limit_val_batches=limit)
    config.valdataset.clips_per_video, config.valdataset.batch_size = clips, batch_size
    if fault is None:
        check_validation_length(config, videos, world_size)
    else:
        with pytest.raises(ConfigError, match=fault):
            check_validation_length(config, videos, world_size)


def test_a_training_is_checked_in_all_its_parts(caplog: pytest.LogCaptureFixture) -> None:
    good, sparse, still = [every(2)] * 4, [every(30)] * 4, [every(1, 1, still=True)] * 4
    check_training(configured(), (good, good), 1)
    assert not caplog.records
    with pytest.raises(ConfigError, match="fewer than 5 ranks"):
        check_training(configured(), (good, good), 5)
    with pytest.raises(ConfigError, match="limit_val_batches=0.2: leaves"):
        check_training(configured(limit_val_batches=0.2), (good, good), 1)
    with pytest.raises(DataError, match="count no frame"):
        check_training(configured(), (good, still), 1)
    for limit in (1.0, 1):
        with pytest.raises(DataError, match="valdataset: no clip has a frame to be scored on"):
            check_training(configured(limit_val_batches=limit), (good, sparse), 1)
    assert not caplog.records
    check_training(configured(limit_val_batches=0), (sparse, sparse), 1)
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == ["dataset: 4 of 4 videos"]


def test_a_feature_cache_holds_no_still_at_any_place() -> None:
    videos, still = [every(2)] * 3, every(1, 1, still=True)
    config = configured()
    check_training(config, ([*videos, still], videos), 1)
    config.dataset.feature_cache = "features"
    check_training(config, (videos, videos), 1)
    for train in ([still, *videos], [*videos, still]):
        with pytest.raises(ConfigError, match=r"dataset.feature_cache: v \(f\) is a still"):
            check_training(config, (train, videos), 1)


def mixture(settings: DatasetConfig, *parts: VideoRecord) -> Mixture:
    members = [Member(str(place), settings, None, 1.0) for place in range(len(parts))]
    return Mixture(members, [[part] for part in parts])


def test_each_set_of_a_mixture_is_checked_by_its_own_settings(caplog: pytest.LogCaptureFixture) -> None:
    sets = [{"data_path": "a", "frame_stride": 30}, {"data_path": "b"}]
    settings = DatasetConfig(datasets=sets)
    check_key_frames("dataset", settings, mixture(settings, every(30), every(2)))
    assert not caplog.records
    check_key_frames("dataset", settings, mixture(settings, every(2), every(30)))
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "dataset: 1 of 1 videos (such as v): no clip of 5 frames at stride 1"
    )


def test_a_mixture_that_validation_takes_from_training_is_checked_by_its_settings(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = ValDatasetConfig(prompt_types=["mask"])
    check_key_frames("valdataset", settings, mixture(settings, every(2), every(30)))
    assert len(caplog.records) == 1
    with pytest.raises(DataError, match="valdataset: no clip .*1 of 1 videos.*; 1 of 1 videos"):
        check_key_frames("valdataset", settings, mixture(settings, every(30), every(30)))


@pytest.mark.parametrize("others", [["point"], ["mask", "point"]])
def test_masks_beside_other_prompts_leave_something_to_score(
    others: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    sets = [{"data_path": "a", "prompt_types": ["mask"]}, {"data_path": "b", "prompt_types": others}]
    settings = DatasetConfig(datasets=sets)
    check_key_frames("dataset", settings, mixture(settings, every(30), every(30)))
    assert len(caplog.records) == 2
    check_key_frames("dataset", DatasetConfig(prompt_types=others), [every(30)])
    assert len(caplog.records) == 3


NEEDS_ANNOTATIONS = "An object needs an annotated frame after the one that it is prompted on"
SKIP = "set trainer.limit_val_batches=0 to train without validation"


def unscorable(config: Config, *records: VideoRecord, can_skip: bool = True) -> str:
    with pytest.raises(DataError) as caught:
        check_scorable(config, records, can_skip)
    return str(caught.value)


def test_the_whole_message_of_videos_that_are_annotated_too_rarely() -> None:
    config = configured(limit_val_batches=1, max_epochs=3)
    what = "validation: J and F count no frame of the videos at train, the training data, since valdataset"
    message = unscorable(config, every(60), every(1, 1, still=True))  # two annotated frames, and a still
    assert message == (
        f"{what} names none: none has enough annotated frames. {NEEDS_ANNOTATIONS} and before the last one: "
        "give longer or more densely annotated videos, or set valdataset.score_first_and_last=true, or "
        f"{SKIP}"
    )
    config.split, config.valdataset.score_first_and_last = "time", True
    assert unscorable(config, every(90), can_skip=False) == (
        f"{what} names none: none has enough annotated frames. {NEEDS_ANNOTATIONS}: "
        "give longer or more densely annotated videos, or raise val_fraction"
    )


def test_a_run_without_validation_needs_nothing_to_score() -> None:
    check_scorable(configured(limit_val_batches=0), [every(1, 1, still=True)])


def test_the_whole_message_of_stills() -> None:
    still, config = every(1, 1, still=True), configured(check_val_every_n_epoch=2)
    config.dataset.data_path, config.dataset.datasets = None, [{"data_path": "a"}, {"data_path": "b"}]
    message = unscorable(config, still, still)
    assert message.startswith(
        "validation: J and F count no frame of the videos at a, b, the training data, since valdataset names "
        "none: each is a still. "
    )
    assert message.endswith(
        f": set valdataset.data_path to real videos, or {SKIP} and leave out trainer.check_val_every_n_epoch"
    )
    config.split, config.trainer.check_val_every_n_epoch = "video", 1
    assert unscorable(config, still).endswith(
        f": set valdataset.data_path to real videos and leave out split, or {SKIP}"
    )
    config.valdataset.data_path = "val"
    message = unscorable(config, still)
    assert message.startswith(
        "validation: J and F count no frame of the videos at valdataset's val: each is a still. "
    )
    assert message.endswith(f": let valdataset name real videos in their place, or {SKIP}")
