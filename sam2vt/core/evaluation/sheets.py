"""Sheets of clips as the model gets them: frames, masks and prompts, with a legend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from sam2vt.core.evaluation.canvas import (
    BAR,
    ICON,
    LABEL,
    MARGIN,
    TITLE,
    Canvas,
    Entry,
    drawn_icon,
    fit_text,
    legend_rows,
    outline_icon,
    swatch,
)
from sam2vt.core.evaluation.drawing import draw_masks, resize_masks
from sam2vt.core.evaluation.palette import WHITE, colour_of
from sam2vt.core.types import Clip, Prompt

PANEL = 224  # pixels: side of a frame
POSITIVE, NEGATIVE = (70, 230, 90), (255, 60, 60)
_REACH = 5  # pixels from the middle of a click to its end


def draw_sheet(
    clips: Sequence[Clip], names: Mapping[str, Mapping[int, Any]] | None = None, style: str = "paper"
) -> Image.Image:
    """Draw one row per clip, one column per frame; an object has one colour over its clip.

    `names` are those of the objects by video: object id -> name, for the legend of each clip. Prompts are
    drawn on their frames: positive clicks as green discs, negative ones as red crosses, boxes and lines
    around masks white. The legend of prompts is at the bottom.
    """
    columns = max(len(clip["images"]) for clip in clips)
    row_height = BAR + LABEL + PANEL + MARGIN
    width = MARGIN + columns * (PANEL + MARGIN)
    rows = legend_rows(_prompt_entries(clips), width)
    top = len(clips) * row_height
    canvas = Canvas(top + len(rows) * LABEL + MARGIN, width, style)
    for row, clip in enumerate(clips):
        y = row * row_height
        middle = y + (MARGIN + BAR) / 2
        x = canvas.text(fit_text(_clip_title(clip), width - 2 * MARGIN, TITLE), MARGIN, middle, TITLE)
        if named := (names or {}).get(clip["video_id"]):
            ids = enumerate(clip["object_ids"])
            canvas.legend(
                [(f"{key} {named.get(key, '')}", swatch(n)) for n, key in ids], x + 2 * MARGIN, middle, width
            )
        for t in range(len(clip["images"])):
            x = MARGIN + t * (PANEL + MARGIN)
            canvas.panel(_clip_panel(clip, t), _frame_caption(clip, t), x, y + BAR)
    for row, entries in enumerate(rows):
        canvas.legend(entries, MARGIN, top + (row + 0.5) * LABEL, width)
    return canvas.image


def _prompt_entries(clips: Sequence[Clip]) -> Iterator[Entry]:
    """Yield what the marks of these clips' prompts mean, each drawn as on the frames."""
    prompts = [prompt for clip in clips for prompt in clip["prompts"]]
    labels = {int(n) for p in prompts if p["type"] == "point" for n in p["point_labels"]}
    kinds = {prompt["type"] for prompt in prompts}
    middle = (ICON // 2, ICON // 2)
    if 1 in labels:
        yield "positive click", drawn_icon(lambda image: _draw_click(image, middle, is_positive=True))
    if 0 in labels:
        yield "negative click", drawn_icon(lambda image: _draw_click(image, middle, is_positive=False))
    if "box" in kinds:
        yield "box", drawn_icon(lambda image: _draw_box(image, (3, 4), (ICON - 4, ICON - 5), 0))
    if "mask" in kinds:
        yield "mask as prompt", outline_icon()


def _clip_title(clip: Clip) -> str:
    objects = "1 object" if clip["num_objects"] == 1 else f"{clip['num_objects']} objects"
    kinds = ", ".join(prompt["type"] for prompt in clip["prompts"])
    return f"{clip['video_id']} · {objects} · prompts: {kinds}"


def _frame_caption(clip: Clip, t: int) -> str:
    known = clip["valid_masks"][t]
    text = f"frame {clip['frame_indices'][t]}"
    if not known.any():
        return f"{text} · masks unknown"
    unknown = int((~known).sum())
    return f"{text} · {unknown} masks unknown" if unknown else text


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
        _draw_box(image, points[0], points[1], prompt["object_index"])
        return
    for point, label in zip(points, prompt["point_labels"].tolist()):
        _draw_click(image, point, bool(label))


def _draw_box(image: np.ndarray, one: tuple[int, int], other: tuple[int, int], place: int) -> None:
    cv2.rectangle(image, one, other, WHITE, 3)
    cv2.rectangle(image, one, other, colour_of(place), 1)


def _draw_click(image: np.ndarray, point: tuple[int, int], is_positive: bool) -> None:
    """Draw a disc or a cross, green or red, with a white rim: the shape tells without the colour."""
    if is_positive:
        cv2.circle(image, point, _REACH + 1, WHITE, -1, cv2.LINE_AA)
        cv2.circle(image, point, _REACH - 1, POSITIVE, -1, cv2.LINE_AA)
        return
    x, y = point
    for colour, width in ((WHITE, 6), (NEGATIVE, 3)):
        for up in (-_REACH, _REACH):
            cv2.line(image, (x - _REACH, y - up), (x + _REACH, y + up), colour, width, cv2.LINE_AA)
