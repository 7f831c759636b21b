"""Four clips in a grid of 2 x 2, each at half its size"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from sam2vt.core.data.clips.augment.content import Content, are_kept, prompted_frames
from sam2vt.core.data.frames.images import resize_mask


def make_mosaic(
    own: Content, others: Sequence[Content], max_objects: int | None, rng: np.random.Generator
) -> Content:
    """The clip and three others, in cells that are drawn; an object keeps the frames it is valid on.

    The clip's own objects come first. Where they leave slots free, objects of the others that are not
    lost by their size fill them, drawn alike; their ids go on after the clip's largest. The clip stays
    as it is where one of its own objects would be lost.
    """
    side = own.images.shape[-1]
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
    """The masks of one object, bool [T, S, S], at half their size in a cell."""
    side = masks.shape[-1]
    small = np.zeros_like(masks)
    for mask, target in zip(masks, small):
        if mask.any():
            target[_cell(cell, side)] = resize_mask(mask, (side // 2, side // 2))
    return small


def _is_kept(masks: np.ndarray, small: np.ndarray) -> bool:
    (first,) = prompted_frames(masks[:, None])
    return bool(masks[first].any()) and are_kept(masks[first][None], small[first][None])
