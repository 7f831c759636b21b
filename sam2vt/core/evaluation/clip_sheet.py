"""Clips side by side in one picture: frames with their masks and prompts, as the model gets them"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from sam2vt.core.evaluation.drawing import (
    DIM_TEXT,
    WHITE,
    Canvas,
    colour_of,
    draw_masks,
    fit_text,
    resize_masks,
)
from sam2vt.core.types import Clip, Prompt

PANEL, MARGIN, BAR, LABEL = 224, 8, 26, 20  # pixels: side of a frame, around it, height of title and caption
_POSITIVE, _NEGATIVE = (70, 230, 90), (255, 60, 60)


def draw_sheet(clips: Sequence[Clip]) -> Image.Image:
    """A row a clip, a column a frame; an object has one colour over its clip.

    Prompts are drawn on their frames: points green, negative ones red, boxes and lines around masks white.
    """
    columns = max(len(clip["images"]) for clip in clips)
    row_height = BAR + LABEL + PANEL + MARGIN
    width = MARGIN + columns * (PANEL + MARGIN)
    canvas = Canvas(height=len(clips) * row_height + MARGIN, width=width)
    for row, clip in enumerate(clips):
        y = row * row_height
        canvas.text(fit_text(_title(clip), width - 2 * MARGIN, 14), MARGIN, y + BAR / 2 + 4, 14)
        for t in range(len(clip["images"])):
            x = MARGIN + t * (PANEL + MARGIN)
            canvas.text(fit_text(_caption(clip, t), PANEL, 12), x, y + BAR + LABEL / 2, 12, DIM_TEXT)
            canvas.paste(_panel(clip, t), x, y + BAR + LABEL)
    return canvas.image()


def _title(clip: Clip) -> str:
    objects = "1 object" if clip["num_objects"] == 1 else f"{clip['num_objects']} objects"
    kinds = ", ".join(prompt["type"] for prompt in clip["prompts"])
    return f"{clip['video_id']} · {objects} · prompts: {kinds}"


def _caption(clip: Clip, t: int) -> str:
    known = clip["valid_masks"][t]
    text = f"frame {clip['frame_indices'][t]}"
    if not known.any():
        return f"{text} · masks not known"
    unknown = int((~known).sum())
    return f"{text} · {unknown} masks not known" if unknown else text


def _panel(clip: Clip, t: int) -> np.ndarray:
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
        around = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))
        edges, _ = cv2.findContours(around, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, edges, -1, WHITE, 1, cv2.LINE_AA)
        return
    points = [_pixel(point, scale) for point in prompt["point_coords"].tolist()]
    if prompt["type"] == "box":
        cv2.rectangle(image, points[0], points[1], WHITE, 3)
        cv2.rectangle(image, points[0], points[1], colour_of(prompt["object_index"]), 1)
        return
    for point, label in zip(points, prompt["point_labels"].tolist()):
        cv2.circle(image, point, 5, WHITE, -1, cv2.LINE_AA)
        cv2.circle(image, point, 4, _POSITIVE if label else _NEGATIVE, -1, cv2.LINE_AA)


def _pixel(point: Any, scale: float) -> tuple[int, int]:
    return int((point[0] + 0.5) * scale), int((point[1] + 0.5) * scale)
