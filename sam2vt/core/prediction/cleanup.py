"""Clean masks: fill holes, and remove small islands."""

from __future__ import annotations

import cv2
import numpy as np


def clean(mask: np.ndarray, fill_holes: int = 0, min_area: int = 0) -> np.ndarray:
    """Return a mask, bool [height, width], with holes of up to `fill_holes` pixels filled, then without
    islands of fewer than `min_area` pixels.

    Background that reaches the border is not a hole, since it may continue outside. The largest island stays
    unless all islands together have fewer than `min_area` pixels. So an object is removed only if all of it
    is noise. `mask` itself does not change.
    """
    if fill_holes > 0 and not mask.all():
        mask = mask | _holes(mask, fill_holes)
    if min_area > 0 and mask.any():
        mask = _without_islands(mask, min_area)
    return mask


def _holes(mask: np.ndarray, most: int) -> np.ndarray:
    # Object pixels that touch by a corner are one island, so background must not pass between them: it is
    # connected by sides alone.
    labels, stats = _components(~mask, connectivity=4)
    left, top, width, height, area = stats.T
    inside = (left > 0) & (top > 0) & (left + width < mask.shape[1]) & (top + height < mask.shape[0])
    is_hole = inside & (area <= most)
    is_hole[0] = False  # the label of everything else
    return is_hole[labels]


def _without_islands(mask: np.ndarray, least: int) -> np.ndarray:
    # Thin parts of an object often run along a diagonal: corners connect.
    labels, stats = _components(mask, connectivity=8)
    area = stats[:, cv2.CC_STAT_AREA].copy()
    area[0] = 0  # the label of the background
    stays = area >= least
    if area.sum() >= least:
        stays[area.argmax()] = True
    return stays[labels]


def _components(mask: np.ndarray, connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the label of each pixel, int32 [height, width], and per label left, top, width, height, area."""
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=connectivity)
    return labels, stats
