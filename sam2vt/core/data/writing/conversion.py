"""Define options of a conversion, and count its losses, or raise them as errors."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass

import numpy as np

from sam2vt.core.data.masks.loading import find_object_ids, known_objects, load_masks, load_void
from sam2vt.core.data.writing.encoding import Encoding, parse_encoding
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError, DataError

log = logging.getLogger(__name__)

_MOST_FPS = 1000  # what players show; encoders refuse some rates beyond


@dataclass(frozen=True)
class ConvertOptions:
    """`encode` is for frames of video files; images do not change. `fps` is for videos that are written."""

    encode: str = "jpeg:95"
    link: bool = False  # hard links instead of copies
    fps: float = 24.0

    def __post_init__(self) -> None:
        if self.encoding.kind == "keep":
            raise ConfigError(
                "--encode keep: images are kept as they are without it; frames of video files become png or "
                "jpeg:<quality>"
            )
        if not 1 <= self.fps <= _MOST_FPS:  # so is NaN
            raise ConfigError(
                f"--fps {self.fps}: has to be at least 1 and at most {_MOST_FPS} frames per second: give the "
                "rate at which the video is to be shown, such as 24; every frame is written at any rate"
            )

    @property
    def encoding(self) -> Encoding:
        return parse_encoding(self.encode)


class Losses:
    """Things that a conversion cannot express, counted by kind."""

    def __init__(self, target: str, allowed: bool) -> None:
        self.target, self.allowed = target, allowed
        self.counts = Counter[str]()

    def tell(self, where: str, what: str, kind: str, remedy: str) -> None:
        """Raise DataError unless losses are allowed. `kind` is counted."""
        if not self.allowed:
            raise DataError(
                f"{where}: {what}, which {self.target} cannot say; {remedy}, or allow it with --lossy"
            )
        self.counts[kind] += 1

    def log(self) -> None:
        for kind, number in self.counts.items():
            log.warning("%s cannot say everything: %d times %s", self.target, number, kind)


def frame_where(record: VideoRecord, frame: int) -> str:
    return f"{record.source}: video {record.video_id}, frame {frame}"


def all_object_ids(record: VideoRecord) -> tuple[int, ...]:
    """Return the ids that the layout lists, else all visible ids."""
    return record.object_ids or find_object_ids(record)


def masks_without_void(record: VideoRecord, frame: int, losses: Losses) -> dict[int, np.ndarray]:
    """Return the visible objects of a frame, for a layout without void and unknown objects."""
    if load_void(record, frame) is not None:
        losses.tell(
            frame_where(record, frame),
            "a part of the frame is void",
            "a void area became background",
            "use davis, or `sam2vt pack`",
        )
    return masks_all_known(record, frame, losses)


def masks_all_known(record: VideoRecord, frame: int, losses: Losses) -> dict[int, np.ndarray]:
    """Return the visible objects of a frame, for a layout without unknown objects on annotated frames."""
    known = known_objects(record, frame)
    unknown = [] if known is None else sorted(set(all_object_ids(record)) - known)
    if unknown:
        losses.tell(
            frame_where(record, frame),
            f"nothing is known of object {', '.join(map(str, unknown))}",
            "an object that is not known on a frame became absent there",
            "use davis-objects, or `sam2vt pack`",
        )
    return load_masks(record, frame)
