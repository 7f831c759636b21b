"""Table of textures computed from random numbers alone: nobody holds rights in them.

Learning from such images transfers to photographs: dead leaves and random networks after Baradad et al.,
"Learning to See by Looking at Noise" (2021), which names the others, too.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import cv2
import numpy as np

Size = tuple[int, int]  # height, width
Texture = Callable[[np.random.Generator, Size], np.ndarray]  # -> float32 [height, width, 3], RGB from 0 to 1

_OCTAVES = 6


def dead_leaves(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Draw disks, rectangles and triangles over each other, many small ones and few large ones."""
    colours = draw_colours(rng, 8)
    image = np.tile(colours[0], (*size, 1))
    largest = min(size) / 2.5
    for _ in range(int(rng.integers(60, 200))):
        radius = max(1.5, largest * float(rng.pareto(2.0) * 0.12 + 0.03))
        middle = rng.uniform(0, size[::-1])
        corners = int(rng.choice([3, 4, 24]))
        angles = rng.random() * 2 * np.pi + np.linspace(0, 2 * np.pi, corners, endpoint=False)
        outline = middle + min(radius, largest) * np.stack([np.cos(angles), np.sin(angles)], 1)
        colour = colours[rng.integers(len(colours))] * rng.uniform(0.7, 1.1)
        cv2.fillPoly(image, [np.round(outline * 16).astype(np.int32)], colour.tolist(), cv2.LINE_AA, 4)
    return _bounded(image)


def fractal(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Draw clouds: noise whose octaves fall off as in photographs."""
    return _ramp(rng, clouds(rng, size, rng.uniform(0.45, 0.75)))


def cells(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Draw the cells around random points, each of a colour, with borders that are dark or light."""
    number = int(rng.integers(8, 60))
    points = rng.uniform(0, size, (number, 2)).astype(np.float32)
    grid = np.moveaxis(np.mgrid[: size[0], : size[1]], 0, -1).astype(np.float32)
    away = np.sqrt(((grid[:, :, None] - points) ** 2).sum(-1))
    nearest = away.argmin(-1)
    first, second = np.partition(away, 1, axis=-1)[..., :2].transpose(2, 0, 1)
    border = np.clip((second - first) / (0.12 * np.sqrt(size[0] * size[1] / number)), 0, 1)[..., None]
    colours = draw_colours(rng, 5)[rng.integers(0, 5, number)]
    edge = np.full(3, rng.random() < 0.5, np.float32)
    return _bounded(colours[nearest] * border + edge * (1 - border))


def glyphs(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Write letters and signs of several sizes over one colour."""
    colours = (draw_colours(rng, 5) * 255).astype(np.uint8)  # OpenCV writes on bytes alone
    image = np.tile(colours[0], (*size, 1))
    for _ in range(int(rng.integers(15, 50))):
        scale = min(size) / 128 * rng.uniform(0.5, 2.5)
        place = tuple(int(each) for each in rng.uniform(-10, size[::-1]))
        text, colour = chr(int(rng.integers(33, 127))), colours[rng.integers(1, 5)].tolist()
        font, weight = int(rng.choice([0, 2, 3, 4, 6])), max(1, round(2 * scale))
        cv2.putText(image, text, place, font, scale, colour, weight, cv2.LINE_AA)
    return (image / 255).astype(np.float32)


def gradients(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Draw ramps and stripes of one or two directions."""
    y, x = np.mgrid[: size[0], : size[1]] / min(size)
    waves = []
    for turns in (rng.uniform(0.2, 1.0), rng.uniform(2.0, 9.0)):
        angle = rng.random() * 2 * np.pi
        way = np.cos(angle) * x + np.sin(angle) * y if rng.random() < 0.7 else np.hypot(x - 0.5, y - 0.5)
        waves.append(0.5 + 0.5 * np.sin(2 * np.pi * (turns * way + rng.random())))
    share = rng.uniform(0.2, 0.8)
    return _ramp(rng, share * waves[0] + (1 - share) * waves[1])


def networks(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Draw what a small random network makes of each pixel's place."""
    y, x = np.mgrid[: size[0], : size[1]] / min(size) * 2 - 1
    values = np.stack([x, y, np.hypot(x, y), np.ones_like(x)], -1) * rng.uniform(1.5, 5.0)
    for width in (16, 16, 16, 3):
        weights = rng.normal(size=(values.shape[-1], width)) / np.sqrt(values.shape[-1]) * 1.7
        values = np.sin(values @ weights) if rng.random() < 0.5 else np.tanh(values @ weights)
    return _bounded(0.5 + 0.5 * values)


def marble(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Draw veins: waves that clouds bend."""
    y, x = np.mgrid[: size[0], : size[1]] / min(size)
    angle, turns = rng.random() * 2 * np.pi, rng.uniform(1.5, 5.0)
    way = np.cos(angle) * x + np.sin(angle) * y + rng.uniform(0.2, 0.6) * clouds(rng, size, 0.6)
    return _ramp(rng, np.abs(np.sin(np.pi * turns * way)) ** 0.6)


def weave(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Draw threads that cross over and under each other."""
    y, x = np.mgrid[: size[0], : size[1]] / min(size) * rng.uniform(5, 14)
    over = (np.floor(x) + np.floor(y)) % 2
    profile = np.where(over, np.sin(np.pi * (x % 1)), np.sin(np.pi * (y % 1)))[..., None]
    colours = draw_colours(rng, 2)
    return _bounded(np.where(over[..., None] > 0, *colours) * (0.35 + 0.65 * profile))


def spots(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Draw spots and stripes as on an animal's fur: noise within a band of frequencies, in two colours."""
    width = min(size) * rng.uniform(0.02, 0.05)
    noise = rng.normal(size=size).astype(np.float32)
    band = cv2.GaussianBlur(noise, (0, 0), width) - cv2.GaussianBlur(noise, (0, 0), 1.6 * width)
    mix = 1 / (1 + np.exp(-6 * (band / band.std() + rng.uniform(-0.7, 0.7))))[..., None]
    light, dark = draw_colours(rng, 2)
    return _bounded(light * mix + dark * (1 - mix))


TEXTURES: dict[str, Texture] = {
    "dead leaves": dead_leaves,
    "fractal": fractal,
    "cells": cells,
    "glyphs": glyphs,
    "gradients": gradients,
    "networks": networks,
}
# Never trained on: they judge what was learnt from the others.
HELD_OUT_TEXTURES: dict[str, Texture] = {"marble": marble, "weave": weave, "spots": spots}


def clouds(rng: np.random.Generator, size: Size, falloff: float) -> np.ndarray:
    """Return noise [height, width] from 0 to 1; each octave has `falloff` times the last one's height."""
    total = np.zeros(size, np.float32)
    for octave in range(_OCTAVES):
        cells = rng.random((3 * 2**octave, 3 * 2**octave)).astype(np.float32)
        total += falloff**octave * cv2.resize(cells, size[::-1], interpolation=cv2.INTER_CUBIC)
    return (total - total.min()) / max(float(np.ptp(total)), 1e-6)


def draw_colours(rng: np.random.Generator, number: int) -> np.ndarray:
    """Return colours that go together, float32 [number, 3]: of near hues, or of hues all around."""
    hue, spread = rng.random(), rng.choice([0.08, 0.25, 1.0])
    hues = (hue + spread * (rng.random(number) - 0.5)) % 1
    saturation, value = rng.uniform(0.05, 0.95, number), rng.uniform(0.15, 1.0, number)
    return np.array([colorsys.hsv_to_rgb(*each) for each in zip(hues, saturation, value)], np.float32)


def _ramp(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """Colour values from 0 to 1 by a ramp of a few colours."""
    colours = draw_colours(rng, 4)
    places = np.sort(np.concatenate([[0.0, 1.0], rng.random(2)]))
    return np.stack([np.interp(values, places, channel) for channel in colours.T], -1).astype(np.float32)


def _bounded(image: np.ndarray) -> np.ndarray:
    return np.clip(image, 0, 1).astype(np.float32)
