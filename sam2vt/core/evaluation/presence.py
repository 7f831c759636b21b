"""Whether a tracker knows when an object is away: the presence accuracy of objects that leave and return."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

PRESENCE = "presence_accuracy"  # name of the column in tables and CSV files; after "val/" in logs


class Presence(NamedTuple):
    """Counts of one object over frames in order."""

    num_frames: int = 0
    right: int = 0  # of these: prediction and ground truth both have a mask, or neither has
    there: bool = False  # visible on the last of these frames
    left: bool = False  # was visible, and then was not
    returned: bool = False  # and then was visible again

    @classmethod
    def of_frame(cls, is_predicted: bool, is_visible: bool) -> Presence:
        """Return the counts of a single frame."""
        return cls(1, int(is_predicted == is_visible), is_visible)

    def followed_by(self, later: Presence) -> Presence:
        """Return the counts over these frames and a later one."""
        left = self.left or (self.there and not later.there)
        returned = self.returned or (self.left and later.there)
        right = self.right + later.right
        return Presence(self.num_frames + later.num_frames, right, later.there, left, returned)


def presence_accuracy(counts: Iterable[Presence]) -> float:
    """Return the share of right frames over all objects that leave and return; NaN if none does."""
    chosen = [each for each in counts if each.returned]
    frames = sum(each.num_frames for each in chosen)
    return sum(each.right for each in chosen) / frames if frames else math.nan
