"""Other clips within a clip: a mosaic of four, or an object pasted as a distractor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from sam2vt.core.data.clips.augment.geometry import MAX_TRIES, warp_images, warp_masks
from sam2vt.core.data.clips.content import Content, are_kept, prompted_frames
from sam2vt.core.data.frames.images import resize_mask

MAX_AREA = 0.1  # of the frame: a larger object is pasted smaller


def make_mosaic(
    own: Content, others: Sequence[Content], max_objects: int | None, rng: np.random.Generator
) -> Content:
    """Return the clip and three others, in cells that are drawn; an object keeps the frames it is valid on.

    The clip's own objects come first. Where they leave slots free, objects of the others that are not
    lost by their size fill them, drawn alike; their ids go on after the clip's largest. The clip stays
    as it is where one of its own objects would be lost.
    """
    side = own.images.shape[-1]
    # All four cells are drawn: else the own clip would always be in the same corner.
    cells = rng.permutation(4).tolist()
    images = np.empty_like(own.images)
    found = []
    for clip, cell in zip((own, *others), cells):
        rows, columns = _cell(cell, side)
        images[..., rows, columns] = F.resize(torch.from_numpy(clip.images), [side // 2, side // 2]).numpy()
        found += [(clip, n, cell) for n in range(clip.masks.shape[1])]
    num_own = len(own.object_ids)
    shrunk = [_shrink(clip.masks[:, n], cell) for clip, n, cell in found]
    kept = [_is_kept(clip.masks[:, n], small) for (clip, n, _), small in zip(found, shrunk)]
    if not all(kept[:num_own]):
        return own
    # An object that is nearly gone at half its size could not be prompted.
    more = np.array([place for place in range(num_own, len(found)) if kept[place]], dtype=int)
    free = len(more) if max_objects is None else max(0, max_objects - num_own)
    chosen = [*range(num_own), *sorted(rng.permutation(more)[:free].tolist())]
    return Content(
        images,
        np.stack([shrunk[place] for place in chosen], axis=1),
        np.stack([found[place][0].valid_masks[:, found[place][1]] for place in chosen], axis=1),
        [*own.object_ids, *(max(own.object_ids) + 1 + n for n in range(len(chosen) - num_own))],
    )


def _cell(cell: int, side: int) -> tuple[slice, slice]:
    row, column = divmod(cell, 2)
    half = side // 2
    return slice(row * half, (row + 1) * half), slice(column * half, (column + 1) * half)


def _shrink(masks: np.ndarray, cell: int) -> np.ndarray:
    """Return the masks of one object, bool [T, S, S], at half their size in a cell."""
    side = masks.shape[-1]
    small = np.zeros_like(masks)
    for mask, target in zip(masks, small):
        if mask.any():
            target[_cell(cell, side)] = resize_mask(mask, (side // 2, side // 2))
    return small


def _is_kept(masks: np.ndarray, small: np.ndarray) -> bool:
    (first,) = prompted_frames(masks[:, None])
    return bool(masks[first].any()) and are_kept(masks[first][None], small[first][None])


def paste_object(content: Content, other: Content, rng: np.random.Generator) -> Content:
    """Return the clip with an object of `other` pasted over it, which hides its objects and is none of them.

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
        # Only the prompted frames matter: an object may be hidden on any other.
        if are_kept(objects, objects & ~over[prompted[0]]):
            shown = warp_images(images, motion)
            return content._replace(
                images=np.where(over[:, None], shown, content.images), masks=content.masks & ~over[:, None]
            )
    return content


def _cut_out(other: Content, n: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the frames and masks of one object; None where it never is visible."""
    known = np.flatnonzero(other.valid_masks[:, n])
    if not other.masks[known, n].any():
        return None
    frames = np.arange(len(other.masks))
    # Where the mask is not known, nothing says where to cut.
    nearest = known[np.abs(frames[:, None] - known).argmin(axis=1)]
    return other.images[nearest], other.masks[nearest, n]


def _draw_place(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the map that puts the object, where it is largest, anywhere; and makes a large one smaller."""
    side, areas = masks.shape[-1], np.count_nonzero(masks, axis=(1, 2))
    rows, columns = np.nonzero(masks[areas.argmax()])
    zoom = min(1.0, math.sqrt(MAX_AREA * side**2 / areas.max()))
    centre = np.array([columns.mean(), rows.mean()]) + 0.5
    shift = rng.random(2) * side - zoom * centre
    return np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]], [0, 0, 1]])
