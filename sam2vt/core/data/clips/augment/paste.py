"""An object of another clip over a clip, as a distractor that hides what is behind it"""

from __future__ import annotations

import math

import numpy as np

from sam2vt.core.data.clips.augment.content import Content, are_kept, prompted_frames
from sam2vt.core.data.clips.augment.geometry import MAX_TRIES, warp_images, warp_masks

MAX_AREA = 0.1  # of the frame: a larger object is pasted smaller


def paste_object(content: Content, other: Content, rng: np.random.Generator) -> Content:
    """An object of `other` lies over the clip's frames and hides its objects; it is none of them.

    It moves as in its own clip, its centre put anywhere. On frames where its mask is not known it is the
    cut-out of the nearest frame on which it is. Where all `MAX_TRIES` places hide an object that is
    prompted there, nothing is pasted.
    """
    cut = _cut_out(other, int(rng.integers(len(other.object_ids))))
    if cut is None:
        return content
    images, masks = cut
    prompted = prompted_frames(content.masks), np.arange(content.masks.shape[1])
    objects = content.masks[prompted]
    for _ in range(MAX_TRIES):
        motion = _draw_place(masks, rng)
        over = warp_masks(masks, motion)
        if are_kept(objects, objects & ~over[prompted[0]]):
            shown = warp_images(images, motion)
            return content._replace(
                images=np.where(over[:, None], shown, content.images), masks=content.masks & ~over[:, None]
            )
    return content


def _cut_out(other: Content, n: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Frames and masks of one object; None where it never is visible."""
    known = np.flatnonzero(other.valid_masks[:, n])
    if not other.masks[known, n].any():
        return None
    frames = np.arange(len(other.masks))
    nearest = known[np.abs(frames[:, None] - known).argmin(axis=1)]
    return other.images[nearest], other.masks[nearest, n]


def _draw_place(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The map that puts the object, where it is largest, anywhere; and makes a large one smaller."""
    side, areas = masks.shape[-1], np.count_nonzero(masks, axis=(1, 2))
    rows, columns = np.nonzero(masks[areas.argmax()])
    zoom = min(1.0, math.sqrt(MAX_AREA * side**2 / areas.max()))
    centre = np.array([columns.mean(), rows.mean()]) + 0.5
    shift = rng.random(2) * side - zoom * centre
    return np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]], [0, 0, 1]])
