"""Masks to the model's square input; frames are resized while they are decoded."""

from __future__ import annotations

import cv2
import numpy as np


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask at another size: bool [h, w] -> bool [H, W], `size` being (H, W) in pixels.

    A pixel belongs to the object where the object covers at least half of it. An object too small to
    cover half of any pixel keeps the pixels that it covers most: resizing never makes an object vanish.
    """
    if mask.shape == tuple(size):
        return mask.copy()
    coverage: np.ndarray = mask.astype(np.float32)
    # Sides that shrink first, by area, then those that grow: linear sampling alone skips thin objects.
    smaller = (min(size[0], mask.shape[0]), min(size[1], mask.shape[1]))
    if smaller != mask.shape:
        coverage = cv2.resize(coverage, smaller[::-1], interpolation=cv2.INTER_AREA)
    if smaller != tuple(size):
        coverage = cv2.resize(coverage, size[::-1], interpolation=cv2.INTER_LINEAR)
    threshold = min(0.5, float(coverage.max()))
    # A whisker below the threshold: half a pixel summed in float32 may come out as 0.4999.
    return (coverage > 0) & (coverage >= threshold - 1e-4)
