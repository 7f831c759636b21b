"""Types for tracking on new videos: prompts from users, and masks for them.

Coordinates are (x, y) in pixels of the upright source frames, from the top left; masks have their size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Click(NamedTuple):
    """A point on a frame: on the object, or beside it."""

    x: float
    y: float
    is_positive: bool = True


@dataclass(frozen=True)
class ObjectPrompt:
    """A prompt for one object on one frame: clicks and a box, or a mask."""

    object_id: int
    frame: int  # index in the video
    clicks: tuple[Click, ...] = ()
    box: tuple[float, float, float, float] | None = None  # x, y of the top left, then of the bottom right
    mask: np.ndarray | None = None  # bool [height, width]
    corrects: bool = False  # the frame is tracked first, then mended; False: the object is shown anew
    where: str = ""  # the file and its entry, or the option, for messages


@dataclass(frozen=True)
class VideoPrompts:
    """All prompts of one video."""

    prompts: tuple[ObjectPrompt, ...]
    names: dict[int, str] = field(default_factory=dict)  # object id -> name, where it has one
    removals: dict[int, int] = field(default_factory=dict)  # object id -> the first frame without it


@dataclass(frozen=True)
class ObjectMask:
    """One object on one frame."""

    object_id: int
    name: str  # "" where it has none
    mask: np.ndarray  # bool [height, width]; empty where the object is absent
    presence: float  # the probability that it is visible
    iou: float  # the IoU that the model predicts for the mask


@dataclass(frozen=True)
class FrameMasks:
    """The objects of one frame, in the order of their ids."""

    frame: int  # index in the video
    height: int
    width: int
    objects: tuple[ObjectMask, ...]

    @property
    def masks(self) -> dict[int, np.ndarray]:
        """Object id -> bool [height, width]."""
        return {each.object_id: each.mask for each in self.objects}
