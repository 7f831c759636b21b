"""Whether a tracker keeps objects apart, and knows when one is away: counts of frames beside J and F."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import cv2
import numpy as np

SWAP_RATE = "swap_rate"  # name of the column in tables and CSV files; "val/swap_rate" in logs
SWAP_RATE_MEANING = "frames on another object, of those on any where several are visible"
PRESENCE = "presence_accuracy"  # likewise


class Swaps(NamedTuple):
    """Counts of one object over frames."""

    contested: int = 0  # several objects are annotated and visible, and the prediction overlaps one of them
    swapped: int = 0  # of these: it overlaps another object more than its own

    def plus(self, other: Swaps) -> Swaps:
        """Return the counts over the frames of both."""
        return Swaps(self.contested + other.contested, self.swapped + other.swapped)


def swap_rate(counts: Iterable[Swaps]) -> float:
    """Return the share of contested frames that are swapped, over all objects; NaN without such frames."""
    contested, swapped = np.sum([Swaps(), *counts], axis=0)
    return float(swapped / contested) if contested else math.nan


def count_swap(
    object_id: int, pred: np.ndarray, ground_truth: Mapping[int, np.ndarray], void: np.ndarray | None = None
) -> Swaps:
    """Return the counts of one object on one frame; masks bool [height,width], the truth by object id.

    Pixels of `void` count for nobody.
    """
    known = pred if void is None else pred & ~void
    if sum(bool(mask.any()) for mask in ground_truth.values()) < 2 or not known.any():
        return Swaps()
    x, y, width, height = cv2.boundingRect(known.view(np.uint8))
    crop = slice(y, y + height), slice(x, x + width)  # no pixel outside is predicted
    overlaps = {other: np.count_nonzero(known[crop] & mask[crop]) for other, mask in ground_truth.items()}
    own = overlaps.pop(object_id, 0)
    most = max(overlaps.values(), default=0)
    return Swaps(int(max(own, most) > 0), int(most > own))


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
