"""Masks cleaned by choice: holes filled, small islands removed, objects of low presence emptied."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from sam2vt.core.prediction.types import FrameMasks, ObjectMask
from sam2vt.errors import ConfigError


@dataclass(frozen=True)
class Cleanup:
    """What is done to masks after tracking; the defaults leave them as they are.

    Raises ConfigError for values that mean nothing.
    """

    fill_holes: int = 0  # holes of up to so many pixels are filled
    min_area: int = 0  # islands of fewer pixels are removed
    presence: float = 0.0  # an object of a lower presence has an empty mask

    def __post_init__(self) -> None:
        pixels = {"fill_holes": self.fill_holes, "min_area": self.min_area}
        faults = [
            f"{name}={value}: allowed are whole numbers of pixels from 0 on, 0 for off"
            for name, value in pixels.items()
            if type(value) is not int or value < 0
        ]
        if isinstance(self.presence, bool) or not 0 <= self.presence <= 1:
            faults.append(f"presence={self.presence}: allowed are probabilities from 0 to 1, 0 for off")
        if faults:
            raise ConfigError.listing("cleaning masks", faults)

    def apply(self, frame: FrameMasks) -> FrameMasks:
        """Return the frame with its masks cleaned; ids, names and scores stay."""
        return replace(frame, objects=tuple(map(self._cleaned, frame.objects)))

    def _cleaned(self, each: ObjectMask) -> ObjectMask:
        if each.presence < self.presence:
            return replace(each, mask=np.zeros_like(each.mask))
        return replace(each, mask=self.clean(each.mask))

    def clean(self, mask: np.ndarray) -> np.ndarray:
        """Return a mask, bool [height, width], without its small holes and islands."""
        return clean(mask, self.fill_holes, self.min_area)


def clean(mask: np.ndarray, fill_holes: int = 0, min_area: int = 0) -> np.ndarray:
    """Return a mask, bool [height, width], with holes of up to `fill_holes` pixels filled, then without
    islands of fewer than `min_area` pixels.

    Background that reaches the border is no hole, since it may go on outside. The largest island stays
    unless all islands together have fewer than `min_area` pixels: cleaning thins an object out, and removes
    only one that is all noise. `mask` itself is not changed.
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
