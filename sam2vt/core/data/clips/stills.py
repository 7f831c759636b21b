"""A still as a clip: a smooth motion of the camera over one image and its masks, drawn from a seed."""

from __future__ import annotations

import math

import cv2
import numpy as np

MAX_DEGREES = 15.0
MAX_ZOOM = 1.3  # in or out
MAX_SHIFT = 0.2  # of the image's side


def draw_motion(num_frames: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Affine maps from the still to each frame, float64 [T, 2, 3], in pixels of a side x side image.

    The first frame is the still itself. From there zoom, turn and shift follow a curve bent by one random
    point on the way to another, so that the motion changes its direction as a hand-held camera's does.
    """
    middle, end = (_draw_pose(rng) for _ in range(2))
    maps = np.empty((num_frames, 2, 3))
    for t in range(num_frames):
        s = t / max(num_frames - 1, 1)
        maps[t] = _affine(2 * s * (1 - s) * middle + s * s * end, side)
    return maps


def move(image: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """An image uint8 [H, W, 3] as the camera shows it, [T, H, W, 3]; beyond its edge it is mirrored."""
    size = image.shape[1::-1]
    frames = [cv2.warpAffine(image, each, size, borderMode=cv2.BORDER_REFLECT_101) for each in maps]
    return np.stack(frames)


def move_mask(mask: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """A mask bool [H, W] alike, [T, H, W]; mirrored parts are no object's, as nothing tells them apart."""
    size, values = mask.shape[::-1], mask.astype(np.uint8)
    return np.stack([cv2.warpAffine(values, each, size, flags=cv2.INTER_NEAREST) for each in maps]) > 0


def _draw_pose(rng: np.random.Generator) -> np.ndarray:
    """(turn in degrees, logarithm of the zoom, shift right, shift down)."""
    limits = np.array([MAX_DEGREES, math.log(MAX_ZOOM), MAX_SHIFT, MAX_SHIFT])
    return rng.uniform(-limits, limits)


def _affine(pose: np.ndarray, side: int) -> np.ndarray:
    centre = (side - 1) / 2
    turned = cv2.getRotationMatrix2D((centre, centre), float(pose[0]), math.exp(pose[1]))
    turned[:, 2] += pose[2:] * side
    return turned
