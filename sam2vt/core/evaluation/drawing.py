"""Masks and captions drawn on frames."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]  # RGB, 0 to 255
BACKGROUND: Colour = (24, 26, 30)
TEXT: Colour = (235, 235, 235)
WHITE: Colour = (255, 255, 255)
DIM_TEXT: Colour = (160, 165, 172)
# Far apart from each other and from most video content; more objects get hues by the golden ratio.
COLOURS: tuple[Colour, ...] = (
    (255, 92, 72),
    (64, 156, 255),
    (255, 200, 40),
    (60, 205, 110),
    (205, 100, 255),
    (0, 214, 214),
    (255, 130, 200),
    (170, 220, 60),
)
FILL = 0.42  # how much of the object's colour covers it


def colour_of(place: int) -> Colour:
    """The colour of the place-th object of a video."""
    if place < len(COLOURS):
        return COLOURS[place]
    red, green, blue = colorsys.hsv_to_rgb(0.11 + 0.618034 * place % 1.0, 0.65, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_masks(
    image: np.ndarray,
    masks: Mapping[int, np.ndarray],
    places: Mapping[int, int],
    truth: Iterable[np.ndarray] = (),
) -> np.ndarray:
    """A copy of the image, uint8 RGB [h,w,3], with masks (bool [h,w] by object id) tinted and outlined.

    `places` gives each object's place in the order of colours. Outlines of `truth` are white and lie
    below those of the masks, so that white shows where the two differ.
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


def resize_masks(masks: Mapping[int, np.ndarray], size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Masks at size (height, width), with smooth edges; a visible object never vanishes."""
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


class Canvas:
    """A picture on which panels and captions are placed, in pixels from the top left."""

    def __init__(self, height: int, width: int) -> None:
        self._image = Image.new("RGB", (width, height), BACKGROUND)
        self._draw = ImageDraw.Draw(self._image)

    def paste(self, panel: np.ndarray, x: int, y: int) -> None:
        self._image.paste(Image.fromarray(panel), (x, y))

    def text(self, words: str, x: float, y: float, size: int = 14, colour: Colour = TEXT) -> float:
        """Writes words whose middle line is at y; returns the x of their end."""
        font = _font(size)
        self._draw.text((x, y), words, font=font, fill=colour, anchor="lm")
        return x + font.getlength(words)

    def legend(self, places: Mapping[int, int], x: float, y: float, end: float, size: int = 14) -> None:
        """A swatch and the id of each object, as many as fit before `end`."""
        for object_id, place in places.items():
            if x + size + _font(size).getlength(f" {object_id}") > end - 2 * size:
                self.text("…", x, y, size, DIM_TEXT)
                return
            self._draw.rectangle((x, y - size / 2, x + size, y + size / 2), fill=colour_of(place))
            x = self.text(str(object_id), x + size * 1.35, y, size, DIM_TEXT) + size

    def image(self) -> Image.Image:
        return self._image


def fit_text(words: str, width: float, size: int) -> str:
    """The words, cut with an ellipsis to at most `width` pixels."""
    font = _font(size)
    if font.getlength(words) <= width:
        return words
    while words and font.getlength(words + "…") > width:
        words = words[:-1]
    return words + "…"


def save_animation(path: Path, frames: Sequence[Image.Image], milliseconds: int) -> None:
    """An endless GIF; each frame shown this long."""
    indexed = [frame.quantize(256, method=Image.Quantize.FASTOCTREE) for frame in frames]
    indexed[0].save(
        path, save_all=True, append_images=indexed[1:], duration=milliseconds, loop=0, format="GIF"
    )


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Pillow's own font does not scale; matplotlib ships a good one.
    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size
    )
