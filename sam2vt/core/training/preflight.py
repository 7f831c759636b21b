"""Check the data of a training against its configuration, before anything is loaded or trained.

Lightning would refuse these runs with less helpful messages, or end them without a step.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from sam2vt.config import NEEDS, Config, DatasetConfig, SchedulerConfig
from sam2vt.configuration.mixture import members
from sam2vt.configuration.report import changed_settings
from sam2vt.configuration.valdatasets import alone, naming
from sam2vt.core.data.clips.key_frames import find_sparse
from sam2vt.core.data.clips.sampling import limited_batches, usable_clips
from sam2vt.core.data.opening import Records, RunRecords
from sam2vt.core.data.records.mixture import Mixture
from sam2vt.core.evaluation.video import can_be_scored
from sam2vt.core.training.feature_cache import videos_to_cache
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError, DataError

log = logging.getLogger(__name__)


def check_training(config: Config, records: Sequence[Any], world_size: int) -> None:
    """Check once per run that its `RunRecords` give epochs, validations and scores.

    `world_size` is the number of processes, the largest one if it may change: with fewer, each has more
    batches. Raises ConfigError if an epoch or a validation would have no batch, or if the feature cache
    cannot store a video; DataError if no validation video, or no clip, could be scored.
    """
    train, val, further = RunRecords(*records)
    if config.dataset.feature_cache is not None:
        for _ in videos_to_cache(train):  # raises at the first video that it refuses
            pass
    check_training_length(config, len(train), world_size)
    check_key_frames("dataset", config.dataset, train)
    _check_validation(config, val, world_size)
    for name, found in further.items():
        _check_validation(alone(config, name), found, world_size, name)


def _check_validation(config: Config, records: Records, world_size: int, name: str = "") -> None:
    """Check the only validation set of a configuration, which is the further one `name`, if any."""
    with naming(name):
        check_validation_length(config, len(records), world_size)
        check_scorable(config, records)
    if config.trainer.limit_val_batches != 0:
        check_key_frames(f"valdatasets.{name}" if name else "valdataset", config.valdataset, records)


def check_key_frames(section: str, settings: DatasetConfig, records: Records) -> None:
    """Log a warning if clips of some videos contain no second annotated frame.

    Raises DataError if this is true of all videos and prompts are masks. A mask prompt is not scored on its
    own frame, so nothing would be scored.
    """
    parts: list[tuple[DatasetConfig, Records]] = [(settings, records)]
    if isinstance(records, Mixture):
        own = [member.settings for member in members(settings)] or [settings] * len(records.parts)
        parts = list(zip(own, records.parts))
    found = [
        find_sparse(part, each.video_clip_length, each.frame_stride, each.max_frame_stride)
        for each, part in parts
    ]
    texts = [
        each.text(f"{section}.video_clip_length", f"{section}.frame_stride") for each in found if each.names
    ]
    only_masks = all(set(each.prompt_types) == {"mask"} for each, _ in parts)
    if only_masks and all(each.is_all for each in found):
        raise DataError(
            f"{section}: no clip has a frame to be scored on, since a mask prompt is its own frame's "
            f"answer. {'; '.join(texts)}"
        )
    for text in texts:
        log.warning("%s: %s", section, text)


def check_training_length(config: Config, num_videos: int, world_size: int) -> None:
    """Raise ConfigError if an epoch has no batch, or ends before its first validation."""
    data, trainer = config.dataset, config.trainer
    usable = usable_clips(num_videos, data.clips_per_video, world_size, data.batch_size)
    num_batches = usable // (world_size * data.batch_size)
    used = limited_batches(
        "trainer.limit_train_batches", num_batches, trainer.limit_train_batches, "an epoch's batches"
    )
    interval = trainer.val_check_interval
    if isinstance(interval, int) and interval > used and trainer.limit_val_batches > 0:
        raise ConfigError(
            f"trainer.val_check_interval={interval}: an epoch has only {used} batches on each rank "
            f"({num_videos} videos x {data.clips_per_video} clips_per_video, {world_size} ranks x batch_size "
            f"{data.batch_size}, limit_train_batches {trainer.limit_train_batches}). Set it to at most "
            f"{used}, or to 1.0 for each epoch's end, or use trainer.check_val_every_n_epoch"
        )


def check_warm_up(scheduler: SchedulerConfig, total_steps: int) -> None:
    """Raise ConfigError if the run, with this many optimizer steps, would end before its warm-up."""
    warmup = scheduler.warmup_steps
    if scheduler.enabled and scheduler.T_max is None and warmup > total_steps:
        raise ConfigError(
            f"scheduler.warmup_steps={warmup}: the run has {total_steps} optimizer steps, so it would end "
            f"before the warm-up does; set at most {total_steps}, or train longer"
        )


def check_validation_length(config: Config, num_videos: int, world_size: int) -> None:
    """Raise ConfigError if a share of the validation batches is less than one batch."""
    data, limit = config.valdataset, config.trainer.limit_val_batches
    if limit == 0:
        return
    clip_batches = -(-num_videos * data.clips_per_video // data.batch_size)
    for num_batches, of in (
        (clip_batches, "the batches of validation clips on a rank"),
        (num_videos, "the validation videos on a rank"),
    ):
        limited_batches("trainer.limit_val_batches", -(-num_batches // world_size), limit, of)


def check_scorable(config: Config, records: Iterable[VideoRecord], can_skip: bool = True) -> None:
    """Raise DataError if a run validates, but no frame of its validation videos counts for J and F.

    Without `can_skip` the message does not suggest skipping validation, which a sweep needs.
    """
    if config.trainer.limit_val_batches == 0:
        return
    all_stills = True
    for record in records:
        if can_be_scored(record, config.valdataset.score_first_and_last):
            return
        all_stills = all_stills and record.is_still
    what = "each is a still" if all_stills else "none has enough annotated frames"
    what = f"J and F count no frame of the videos at {_source(config)}: {what}"
    raise unscorable(config, what, all_stills, can_skip)


def unscorable(config: Config, what: str, all_stills: bool = False, can_skip: bool = True) -> DataError:
    """Return the error for a validation without a scored frame: the fault `what`, and its remedies."""
    bounds = "" if config.valdataset.score_first_and_last else " and before the last one"
    return DataError(
        f"validation: {what}. An object needs an annotated frame after the one that it is prompted "
        f"on{bounds}: {_remedies(config, all_stills, can_skip)}"
    )


def _remedies(config: Config, all_stills: bool, can_skip: bool) -> str:
    """Return changes that give a score or do without one, as words; nothing that is set already."""
    if all_stills:
        found = [_other_videos(config)]
    else:
        found = ["give longer or more densely annotated videos"]
        if config.split == "time":
            found.append("raise val_fraction")
        if not config.valdataset.score_first_and_last:
            found.append("set valdataset.score_first_and_last=true")
    if can_skip:
        found.append(_skip(config))
    return ", or ".join(found)


def _source(config: Config) -> str:
    given = config.valdataset if config.valdataset.is_given else config.dataset
    paths = ", ".join(str(each["data_path"]) for each in given.datasets) or given.data_path
    if config.valdataset.is_given:
        return f"valdataset's {paths}"
    return f"{paths}, the training data, since valdataset names none"


def _other_videos(config: Config) -> str:
    if config.valdataset.is_given:
        return "let valdataset name real videos in their place"
    without_split = "" if config.split == "none" else " and leave out split"
    return f"set valdataset.data_path to real videos{without_split}"


def _skip(config: Config) -> str:
    changed = [f"trainer.{name}" for name in changed_settings(config.trainer)] + changed_settings(config)
    given = [name for name in changed if NEEDS.get(name) == "trainer.limit_val_batches"]
    rest = f" and leave out {', '.join(given)}" if given else ""
    return f"set trainer.limit_val_batches=0 to train without validation{rest}"
