"""Sprites: textured shapes that move, turn, grow and bend; table of the shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from sam2vt.core.data.writing.textures import Texture, clouds

SIDE = 128  # pixels of a sprite's texture and shape
Shape = Callable[
    [np.random.Generator], np.ndarray
]  # -> float32 [SIDE, SIDE], 1 inside, within [-1, 1] x [-1, 1]


def blob(rng: np.random.Generator) -> np.ndarray:
    """Draw an outline whose radius swings."""
    x, y = _plane()
    theta, radius = np.arctan2(y, x), np.full_like(x, 0.68)
    for harmonic in range(2, 7):
        swing = rng.uniform(0.0, 0.3) / harmonic
        radius += swing * np.cos(harmonic * theta + rng.random() * 2 * np.pi)
    return (np.hypot(x, y) < radius).astype(np.float32)


def polygon(rng: np.random.Generator) -> np.ndarray:
    """Draw straight edges between corners at random distances."""
    corners = int(rng.integers(3, 9))
    angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
    distances = rng.uniform(0.45, 0.95, corners)
    return _filled(np.stack([np.cos(angles), np.sin(angles)], 1) * distances[:, None])


def cloud(rng: np.random.Generator) -> np.ndarray:
    """Draw the largest piece of a cloud."""
    x, y = _plane()
    noise = clouds(rng, (SIDE, SIDE), 0.45) - 0.75 * np.hypot(x, y) ** 2
    inside = (noise > np.quantile(noise, 0.62)) & (np.hypot(x, y) < 0.98)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8))
    return (labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()).astype(np.float32)


def ellipse(rng: np.random.Generator) -> np.ndarray:
    """Draw an ellipse."""
    x, y = _plane()
    return ((x / 0.95) ** 2 + (y / rng.uniform(0.35, 0.9)) ** 2 < 1).astype(np.float32)


def limbs(rng: np.random.Generator) -> np.ndarray:
    """Draw a body with limbs, as an animal has them."""
    x, y = _plane()
    inside = (x / 0.5) ** 2 + (y / rng.uniform(0.25, 0.4)) ** 2 < 1
    for angle in rng.random() * 2 * np.pi + np.linspace(
        0, 2 * np.pi, int(rng.integers(3, 6)), endpoint=False
    ):
        along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        inside |= (np.abs(across) < rng.uniform(0.08, 0.16)) & (along > 0) & (along < rng.uniform(0.7, 0.95))
    return inside.astype(np.float32)


def ring(rng: np.random.Generator) -> np.ndarray:
    """Draw a ring."""
    x, y = _plane()
    away = np.hypot(x, y / rng.uniform(0.7, 1.0))
    return ((away < 0.9) & (away > rng.uniform(0.3, 0.5))).astype(np.float32)


SHAPES: dict[str, Shape] = {"blob": blob, "polygon": polygon, "cloud": cloud, "ellipse": ellipse}
HELD_OUT_SHAPES: dict[str, Shape] = {"limbs": limbs, "ring": ring}


@dataclass(frozen=True)
class Sprite:
    """A shape with its texture, and how it moves. Lengths are in image heights, times from 0 to 1."""

    texture: np.ndarray  # float32 [SIDE, SIDE, 3]
    shape: np.ndarray  # float32 [SIDE, SIDE]
    path: np.ndarray  # [n, 3]: time, x, y
    radius: float
    growth: np.ndarray  # [n]: the radius's factor, at equal times
    spin: tuple[float, float]  # turns at the start, turns over the video
    bend: np.ndarray  # [2, 4]: amplitude, waves, phase, turns over the video of the bending along each axis

    def centre(self, time: float) -> np.ndarray:
        """Return (x, y) on the path, whose corners are rounded."""
        times = time + np.linspace(-0.05, 0.05, 7)
        return np.array([np.interp(times, self.path[:, 0], self.path[:, axis]).mean() for axis in (1, 2)])

    def scale(self, time: float) -> float:
        """Return the radius at a time."""
        return self.radius * float(np.interp(time, np.linspace(0, 1, len(self.growth)), self.growth))

    def drawn(self, time: float, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return colour [h, w, 3] and cover [h, w], 1 inside, at places [2, h, w] of the world."""
        x, y = (grid - self.centre(time)[:, None, None]) / self.scale(time)
        angle = 2 * np.pi * (self.spin[0] + self.spin[1] * time)
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        along_u, along_v = self.bend
        u, v = u + _wave(along_u, v, time), v + _wave(along_v, u, time)
        across, down = (((each + 1) * (SIDE / 2) - 0.5).astype(np.float32) for each in (u, v))
        colour = cv2.remap(self.texture, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        return colour, cv2.remap(self.shape, across, down, cv2.INTER_LINEAR)


def paint(rng: np.random.Generator, texture: Texture) -> np.ndarray:
    """Return a texture of a sprite's size, darker towards one side as under a lamp."""
    x, y = _plane()
    angle, depth = rng.random() * 2 * np.pi, rng.uniform(0, 0.35)
    shade = 1 - depth * (0.5 + 0.5 * (np.cos(angle) * x + np.sin(angle) * y))
    return (texture(rng, (SIDE, SIDE)) * shade[..., None]).astype(np.float32)


def _wave(bend: np.ndarray, along: np.ndarray, time: float) -> np.ndarray:
    amplitude, waves, phase, turns = bend
    return amplitude * np.sin(2 * np.pi * (waves * along / 2 + phase + turns * time))


def _filled(outline: np.ndarray) -> np.ndarray:
    shape = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(shape, [np.round((outline + 1) / 2 * SIDE).astype(np.int32)], 1)
    return shape.astype(np.float32)


def _plane() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:SIDE, :SIDE]
    return (x + 0.5) / (SIDE / 2) - 1, (y + 0.5) / (SIDE / 2) - 1
