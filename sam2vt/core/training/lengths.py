"""How many batches an epoch and a validation have, where Lightning would refuse or train nothing."""

from __future__ import annotations

from sam2vt.config import Config, SchedulerConfig
from sam2vt.core.data.sampling import usable_clips
from sam2vt.errors import ConfigError


def limited_batches(field: str, num_batches: int, limit: int | float, of: str) -> int:
    """What a limit leaves of `num_batches` (those `of` something): an int counts, a float is a share.

    Raises ConfigError where that is none, naming the least share that leaves one.
    """
    used = min(num_batches, limit) if isinstance(limit, int) else int(num_batches * limit)
    if used == 0:
        raise ConfigError(
            f"{field}={limit}: leaves {limit} x {num_batches} = {num_batches * limit:g}, less than one, of "
            f"{of}; give a share of at least 1/{num_batches}, or 1 (an integer) for a single batch"
        )
    return int(used)


def check_training_length(config: Config, num_videos: int, world_size: int) -> None:
    """Raise ConfigError where an epoch has no batch, or ends before its first validation."""
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
    """Raise ConfigError where the run, of so many optimizer steps, would end before its warm-up."""
    warmup = scheduler.warmup_steps
    if scheduler.enabled and scheduler.T_max is None and warmup > total_steps:
        raise ConfigError(
            f"scheduler.warmup_steps={warmup}: the run has {total_steps} optimizer steps, so it would end "
            f"before the warm-up does; set at most {total_steps}, or train longer"
        )


def check_validation_length(config: Config, num_videos: int, world_size: int) -> None:
    """Raise ConfigError where a share of the validation batches is less than one batch."""
    data, limit = config.valdataset, config.trainer.limit_val_batches
    if limit == 0:
        return
    clip_batches = -(-num_videos * data.clips_per_video // data.batch_size)
    for num_batches, of in (
        (clip_batches, "the batches of validation clips on a rank"),
        (num_videos, "the validation videos on a rank"),
    ):
        limited_batches("trainer.limit_val_batches", -(-num_batches // world_size), limit, of)
