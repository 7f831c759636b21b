"""What a layout cannot say of a frame: an error, or where the user allows it a count."""

from __future__ import annotations

import logging
from collections import Counter

import numpy as np

from sam2vt.core.data.masks.loading import find_object_ids, known_objects, load_masks, load_void
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

log = logging.getLogger(__name__)


class Losses:
    """Of one conversion."""

    def __init__(self, target: str, allowed: bool) -> None:
        self.target, self.allowed = target, allowed
        self.counts = Counter[str]()

    def tell(self, where: str, what: str, kind: str, remedy: str) -> None:
        """Raises DataError unless losses are allowed. `kind` is what is counted."""
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
    """As the layout lists them, else those that are visible somewhere."""
    return record.object_ids or find_object_ids(record)


def masks_without_void(record: VideoRecord, frame: int, losses: Losses) -> dict[int, np.ndarray]:
    """The visible objects of a frame, for a layout that has neither void nor unknown objects."""
    if load_void(record, frame) is not None:
        losses.tell(
            frame_where(record, frame),
            "a part of the frame is void",
            "a void area became background",
            "use davis, or `sam2vt pack`",
        )
    return masks_all_known(record, frame, losses)


def masks_all_known(record: VideoRecord, frame: int, losses: Losses) -> dict[int, np.ndarray]:
    """The visible objects of a frame, for a layout in which an annotated frame knows all objects."""
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
