"""Define the interface of output formats, the rows of `OUTPUTS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sam2vt.core.prediction.journal import TrackedVideo


class Plan(NamedTuple):
    """The facts about a video before it is tracked, and afterwards."""

    video_id: str
    object_ids: tuple[int, ...] = ()
    keeps_overlaps: bool = False
    first_frames: Mapping[int, int] = {}  # of objects, once it is tracked


class Output(NamedTuple):
    """A format for masks. Its functions write complete files, below the folder that they get."""

    meaning: str
    write: Callable[[TrackedVideo, Path], None] = lambda video, folder: None  # a video, when it is finished
    join: Callable[[Sequence[TrackedVideo], Path], None] = lambda videos, folder: None  # when all are
    refusal: Callable[[Plan], str | None] = lambda plan: None  # why the format cannot hold it, and a remedy
    fills: str = ""  # the folder that is this format's alone, where others may want it, too


def id_refusal(plan: Plan, least: int, most: int, what: str, instead: str) -> str | None:
    """Return why an id below `least` or above `most` is refused; `what` has the ids."""
    wrong = next((key for key in plan.object_ids if not least <= key <= most), None)
    if wrong is None:
        return None
    where = f"video {plan.video_id}, object {wrong}"
    if wrong in plan.first_frames:  # it came with a detection, and nobody chose its number
        return (
            f"{where}, which begins on frame {plan.first_frames[wrong]}: {what} has ids from {least} to "
            f"{most}; ask for {instead} (--formats)"
        )
    return f"{where}: {what} has ids from {least} to {most}; give it another number, or ask for {instead}"
