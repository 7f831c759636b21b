"""Masks and names of objects drawn on frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from sam2vt.core.evaluation.canvas import font
from sam2vt.core.evaluation.palette import WHITE, Colour, colour_of, ink_on

FILL = 0.42  # share of the object's colour in its pixels


def draw_masks(
    image: np.ndarray,
    masks: Mapping[int, np.ndarray],
    places: Mapping[int, int],
    truth: Iterable[np.ndarray] = (),
) -> np.ndarray:
    """Return a copy of the image, uint8 RGB [h,w,3], with masks (bool [h,w] by object id) drawn on it.

    Masks are tinted and outlined. `places` gives each object's place in the order of colours. Outlines of
    `truth` are white and drawn below those of the masks, so that white shows where the two differ.
    """
    out = image.astype(np.float32)
    for object_id, mask in masks.items():
        out[mask] = (1 - FILL) * out[mask] + FILL * np.array(colour_of(places[object_id]), np.float32)
    drawn = out.round().astype(np.uint8)
    for mask in truth:
        _outline(drawn, mask, WHITE)
    for object_id, mask in masks.items():
        _outline(drawn, mask, colour_of(places[object_id]))
    return drawn


def _outline(image: np.ndarray, mask: np.ndarray, colour: Colour) -> None:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, colour, 1, cv2.LINE_AA)


def draw_labels(image: np.ndarray, labels: Iterable[tuple[str, int, tuple[int, int]]]) -> np.ndarray:
    """Return the image, uint8 RGB [h,w,3], with texts on it: each with its place in the order of colours, and
    the (x, y) of its object's top left corner, above which it is written; inside the image in any case. Where
    another label is already, it moves up or down to the nearest free place, if there is one.
    """
    drawn = Image.fromarray(image)
    draw = ImageDraw.Draw(drawn)
    size = max(10, round(min(image.shape[:2]) / 30))
    height, taken = size * 1.3, list[tuple[float, float, float]]()  # left, right and top of each
    for words, place, (left, top) in labels:
        width = font(size).getlength(words) + size / 2
        x = max(0, min(left, image.shape[1] - width))
        tops = [other for begin, end, other in taken if begin <= x + width and x <= end]
        y = _free_top(max(0, top - height), tops, height + 1, image.shape[0] - height)
        taken.append((x, x + width, y))
        colour, at = colour_of(place), (x + size / 4, y + height / 2)
        draw.rectangle((x, y, x + width, y + height), fill=colour)
        draw.text(at, words, font=font(size), fill=ink_on(colour), anchor="lm")
    return np.asarray(drawn)


def _free_top(wanted: float, tops: Sequence[float], height: float, most: float) -> float:
    """Return the place nearest to `wanted`, up to `most`, where no label at `tops` is; `wanted` if none."""
    places = [wanted, *(each + sign * height for each in tops for sign in (-1, 1))]
    free = [y for y in places if 0 <= y <= most and all(abs(y - each) >= height for each in tops)]
    return min(free, key=lambda y: abs(y - wanted), default=wanted)


def resize_masks(masks: Mapping[int, np.ndarray], size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Return masks at size (height, width), with smooth edges; a visible object never vanishes."""
    resized = {}
    for object_id, mask in masks.items():
        if mask.shape == size:
            resized[object_id] = mask.copy()
            continue
        shrinks = size[0] < mask.shape[0]
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        cover = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=interpolation)
        resized[object_id] = cover >= min(0.5, cover.max()) if mask.any() else np.zeros(size, dtype=bool)
    return resized
