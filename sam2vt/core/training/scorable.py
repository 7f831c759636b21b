"""Whether validation has a frame to score, as the annotations tell, and what to do where it has none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from sam2vt.config import Config, TrainerConfig
from sam2vt.core.evaluation.video import can_be_scored
from sam2vt.core.types import STILL, VideoRecord
from sam2vt.errors import DataError

# What a run without validation must not set.
_OF_VALIDATION = ("early_stopping_patience", "val_check_interval", "check_val_every_n_epoch")


def check_scorable(config: Config, records: Iterable[VideoRecord], can_skip: bool = True) -> None:
    """Raise DataError where a run validates and J and F count no frame of any of its validation videos.

    A run that cannot do without validation, as in a sweep, is not told to skip it.
    """
    if config.trainer.limit_val_batches == 0:
        return
    all_stills = True
    for record in records:
        if can_be_scored(record, config.valdataset.score_first_and_last):
            return
        all_stills = all_stills and bool(record.extra.get(STILL))
    what = "each is a still" if all_stills else "none has enough annotated frames"
    raise DataError(
        f"validation: J and F count no frame of the videos at {_source(config)}: {what}. An object needs an "
        f"annotated frame after the one that it is prompted on{bounds(config)}: "
        f"{remedies(config, all_stills, can_skip)}"
    )


def bounds(config: Config) -> str:
    return "" if config.valdataset.score_first_and_last else " and before the last one"


def remedies(config: Config, all_stills: bool = False, can_skip: bool = True) -> str:
    """What may be changed so that there is a score, or none is needed; nothing that is set already."""
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
    defaults = {each.name: each.default for each in fields(TrainerConfig)}
    given = [name for name in _OF_VALIDATION if getattr(config.trainer, name) != defaults[name]]
    rest = f" and leave out {', '.join(f'trainer.{name}' for name in given)}" if given else ""
    return f"set trainer.limit_val_batches=0 to train without validation{rest}"
