"""The interface of an output format: what a file of this room defines, and a row of `OUTPUTS` lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from sam2vt.core.prediction.journal import TrackedVideo


class Plan(NamedTuple):
    """What is known of a video before it is tracked."""

    video_id: str
    object_ids: tuple[int, ...] = ()
    keeps_overlaps: bool = False


class Output(NamedTuple):
    """A format that masks can be written in. Its functions write files whole, below the folder they get."""

    meaning: str
    write: Callable[[TrackedVideo, Path], None] = lambda video, folder: None  # a video, when it is finished
    join: Callable[[Sequence[TrackedVideo], Path], None] = lambda videos, folder: None  # when all are
    refusal: Callable[[Plan], str | None] = lambda plan: None  # why the format cannot hold it, and a remedy
    fills: str = ""  # the folder that is this format's alone, where others may want it, too


def id_refusal(plan: Plan, least: int, most: int, what: str, instead: str) -> str | None:
    """Return why an id below `least` or above `most` is refused; `what` is what has ids."""
    wrong = next((key for key in plan.object_ids if not least <= key <= most), None)
    if wrong is None:
        return None
    return (
        f"video {plan.video_id}, object {wrong}: {what} has ids from {least} to {most}; give the object "
        f"another number, or ask for {instead}"
    )
