"""What augmentation alters of a clip, and whether it leaves the objects where they are prompted"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FEW_PIXELS = 16  # of the model's input: an object with fewer on its prompted frame counts as lost


class Content(NamedTuple):
    """A clip without its prompts."""

    images: np.ndarray  # uint8 [T, 3, H, W], RGB
    masks: np.ndarray  # bool [T, N, H, W]
    valid_masks: np.ndarray  # bool [T, N]
    object_ids: list[int]  # [N]
    features: list[np.ndarray] | None = None  # in place of images, which are none then


def prompted_frames(masks: np.ndarray) -> np.ndarray:
    """The first frame on which each object is visible, [N]; 0 where it never is."""
    return masks.any(axis=(2, 3)).argmax(axis=0)


def are_kept(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether no object is lost; bool [N, H, W] each, the objects on their prompted frames.

    An object that had fewer than `FEW_PIXELS` before must not have become smaller.
    """
    areas, left = np.count_nonzero(before, axis=(1, 2)), np.count_nonzero(after, axis=(1, 2))
    return bool((left >= np.minimum(areas, FEW_PIXELS)).all())
