"""Masks, prompts and captions drawn on frames, and sheets of clips as the model gets them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sam2vt.core.evaluation.palette import WHITE, Colour, colour_of, ink_on
from sam2vt.core.types import Clip, Prompt

BACKGROUND: Colour = (24, 26, 30)
TEXT: Colour = (235, 235, 235)
DIM_TEXT: Colour = (160, 165, 172)
FILL = 0.42  # share of the object's colour in its pixels
MARGIN, BAR, LABEL = 10, 26, 22  # pixels: around panels, height of a title and of a caption
PANEL = 224  # pixels: side of a frame on a sheet
_POSITIVE, _NEGATIVE = (70, 230, 90), (255, 60, 60)


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
        width = _font(size).getlength(words) + size / 2
        x = max(0, min(left, image.shape[1] - width))
        tops = [other for begin, end, other in taken if begin <= x + width and x <= end]
        y = _free_top(max(0, top - height), tops, height + 1, image.shape[0] - height)
        taken.append((x, x + width, y))
        colour, at = colour_of(place), (x + size / 4, y + height / 2)
        draw.rectangle((x, y, x + width, y + height), fill=colour)
        draw.text(at, words, font=_font(size), fill=ink_on(colour), anchor="lm")
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


class Canvas:
    """A picture, `image`, on which panels and captions are placed, in pixels from the top left."""

    def __init__(self, height: int, width: int) -> None:
        self.image = Image.new("RGB", (width, height), BACKGROUND)
        self._draw = ImageDraw.Draw(self.image)

    def panel(self, image: np.ndarray, caption: str, x: int, y: int) -> None:
        """Place an image, uint8 RGB, with its caption above it."""
        self.text(fit_text(caption, image.shape[1], 13), x, y + LABEL / 2, 13, DIM_TEXT)
        self.image.paste(Image.fromarray(image), (x, y + LABEL))

    def text(self, words: str, x: float, y: float, size: int = 14, colour: Colour = TEXT) -> float:
        """Write words whose middle line is at y; return the x of their end."""
        font = _font(size)
        self._draw.text((x, y), words, font=font, fill=colour, anchor="lm")
        return x + font.getlength(words)

    def legend(self, places: Mapping[Any, int], x: float, y: float, end: float, size: int = 14) -> None:
        """Draw a swatch and the id or name of each object, as many as fit before `end`."""
        for label, place in places.items():
            if x + size + _font(size).getlength(f" {label}") > end - 2 * size:
                self.text("…", x, y, size, DIM_TEXT)
                return
            self._draw.rectangle((x, y - size / 2, x + size, y + size / 2), fill=colour_of(place))
            x = self.text(str(label), x + size * 1.35, y, size, DIM_TEXT) + size


def fit_text(words: str, width: float, size: int) -> str:
    """Return the words, cut with an ellipsis to at most `width` pixels."""
    font = _font(size)
    if font.getlength(words) <= width:
        return words
    while words and font.getlength(words + "…") > width:
        words = words[:-1]
    return words + "…"


def save_animation(path: Path, frames: Sequence[Image.Image], milliseconds: int) -> None:
    """Write an endless GIF that shows each frame this long."""
    # One palette per frame: with a common one, colours of later frames shift.
    indexed = [frame.quantize(256, method=Image.Quantize.FASTOCTREE) for frame in frames]
    indexed[0].save(
        path, save_all=True, append_images=indexed[1:], duration=milliseconds, loop=0, format="GIF"
    )


def draw_sheet(clips: Sequence[Clip], names: Mapping[str, Mapping[int, Any]] | None = None) -> Image.Image:
    """Draw one row per clip, one column per frame; an object has one colour over its clip.

    `names` are those of the objects by video: object id -> name, for the legend of each clip.
    Prompts are drawn on their frames: points green, negative ones red, boxes and lines around masks white.
    """
    columns = max(len(clip["images"]) for clip in clips)
    row_height = BAR + LABEL + PANEL + MARGIN
    width = MARGIN + columns * (PANEL + MARGIN)
    canvas = Canvas(height=len(clips) * row_height + MARGIN, width=width)
    for row, clip in enumerate(clips):
        y = row * row_height
        x = canvas.text(fit_text(_clip_title(clip), width - 2 * MARGIN, 14), MARGIN, y + BAR / 2 + 4, 14)
        if named := (names or {}).get(clip["video_id"]):
            labels = {f"{key} {named.get(key, '')}": n for n, key in enumerate(clip["object_ids"])}
            canvas.legend(labels, x + 2 * MARGIN, y + BAR / 2 + 4, width, 12)
        for t in range(len(clip["images"])):
            x = MARGIN + t * (PANEL + MARGIN)
            canvas.panel(_clip_panel(clip, t), _frame_caption(clip, t), x, y + BAR)
    return canvas.image


def _clip_title(clip: Clip) -> str:
    objects = "1 object" if clip["num_objects"] == 1 else f"{clip['num_objects']} objects"
    kinds = ", ".join(prompt["type"] for prompt in clip["prompts"])
    return f"{clip['video_id']} · {objects} · prompts: {kinds}"


def _frame_caption(clip: Clip, t: int) -> str:
    known = clip["valid_masks"][t]
    text = f"frame {clip['frame_indices'][t]}"
    if not known.any():
        return f"{text} · masks not known"
    unknown = int((~known).sum())
    return f"{text} · {unknown} masks not known" if unknown else text


def _clip_panel(clip: Clip, t: int) -> np.ndarray:
    """A frame at the panel's size, uint8 RGB [PANEL, PANEL, 3]."""
    image = np.ascontiguousarray(clip["images"][t].permute(1, 2, 0).numpy())
    side = image.shape[0]
    shrinks = cv2.INTER_AREA if side > PANEL else cv2.INTER_LINEAR
    image = cv2.resize(image, (PANEL, PANEL), interpolation=shrinks)
    masks = resize_masks(dict(enumerate(clip["masks"][t].numpy())), (PANEL, PANEL))
    drawn = draw_masks(image, masks, {n: n for n in masks})
    for prompt in clip["prompts"]:
        if prompt["frame_index"] == t:
            _draw_prompt(drawn, prompt, PANEL / side)
    return drawn


def _draw_prompt(image: np.ndarray, prompt: Prompt, scale: float) -> None:
    if prompt["type"] == "mask":
        (mask,) = resize_masks({0: prompt["mask"].numpy()}, image.shape[:2]).values()
        # Around the mask, so that the line does not cover the object's own outline.
        around = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))
        edges, _ = cv2.findContours(around, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, edges, -1, WHITE, 1, cv2.LINE_AA)
        return
    points = [(int((x + 0.5) * scale), int((y + 0.5) * scale)) for x, y in prompt["point_coords"].tolist()]
    if prompt["type"] == "box":
        cv2.rectangle(image, points[0], points[1], WHITE, 3)
        cv2.rectangle(image, points[0], points[1], colour_of(prompt["object_index"]), 1)
        return
    for point, label in zip(points, prompt["point_labels"].tolist()):
        cv2.circle(image, point, 5, WHITE, -1, cv2.LINE_AA)
        cv2.circle(image, point, 4, _POSITIVE if label else _NEGATIVE, -1, cv2.LINE_AA)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Pillow's own font does not scale; matplotlib ships a good one.
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
