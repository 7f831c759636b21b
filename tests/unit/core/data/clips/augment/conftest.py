"""Clips whose objects are painted in a colour that nothing else has."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from sam2vt.core.data.clips.content import Content

SIDE, LENGTH = 128, 4
BACKGROUND, COLOURS = (40, 90, 60), ((250, 20, 20), (20, 20, 250))


@pytest.fixture
def paint() -> Callable[..., Content]:
    """A clip of discs, (x, y, radius) each; they move by `step` pixels a frame to the right."""

    def make(discs=((50, 60, 18), (90, 70, 14)), step: int = 3, length: int = LENGTH) -> Content:
        images = np.empty((length, SIDE, SIDE, 3), np.uint8)
        masks = np.zeros((length, len(discs), SIDE, SIDE), bool)
        images[:] = BACKGROUND
        for t in range(length):
            for n, (x, y, radius) in enumerate(discs):
                mask = np.zeros((SIDE, SIDE), np.uint8)
                cv2.circle(mask, (x + step * t, y), radius, 1, -1)
                masks[t, n] = mask > 0
                masks[t, :n] &= ~masks[t, n]
                images[t][mask > 0] = COLOURS[n]
        frames = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        return Content(frames, masks, np.ones(masks.shape[:2], bool), list(range(1, len(discs) + 1)))

    return make


def painted(images: np.ndarray, n: int) -> np.ndarray:
    """Where frames [T, 3, H, W] show the colour of object n rather than another, bool [T, H, W]."""
    distances = [
        np.abs(images.astype(int) - np.array(colour)[:, None, None]).sum(axis=1)
        for colour in (COLOURS[n], BACKGROUND, COLOURS[1 - n], (124, 116, 104))
    ]
    return np.argmin(distances, axis=0) == 0
