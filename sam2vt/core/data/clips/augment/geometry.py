"""Move and mix clips: one motion for all frames and their masks, a mosaic of four, a pasted object.

Except for the flip, a motion is one affine map, so pixels are interpolated only once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from sam2vt.config import AugmentConfig
from sam2vt.core.data.clips.content import Content, are_kept, prompted_frames
from sam2vt.core.data.frames.images import resize_mask

MAX_TRIES = 8  # motions that are drawn until one loses no object
FILL = (124, 116, 104)  # beyond the frame: the mean colour, about zero for the model
MAX_AREA = 0.1  # of the frame: a larger object is pasted smaller

_MOTION = ("degrees", "translate", "scale", "shear", "crop_area", "crop_ratio", "scale_jitter")


def move(content: Content, settings: AugmentConfig, aspect: float, rng: np.random.Generator) -> Content:
    """Return the moved clip; if all `MAX_TRIES` motions lose an object, it is only flipped, or unchanged.

    An object is lost if its mask is nearly gone on its prompted frame.
    """
    if rng.random() < settings.flip_probability:
        content = flip(content)
    defaults = AugmentConfig()
    # Nothing to move: no random number is drawn, and the frames are not resampled.
    if all(getattr(settings, name) == getattr(defaults, name) for name in _MOTION):
        return content
    objects = content.masks[prompted_frames(content.masks), np.arange(content.masks.shape[1])]
    # Only the prompted masks are moved to judge a motion; all frames follow when it is taken.
    for _ in range(MAX_TRIES):
        motion = draw_motion(settings, content.images.shape[-1], aspect, rng)
        if are_kept(objects, warp_masks(objects, motion)):
            return content._replace(
                images=warp_images(content.images, motion), masks=warp_masks(content.masks, motion)
            )
    return content


def flip(content: Content) -> Content:
    """Return the clip mirrored left to right."""
    images, masks = F.horizontal_flip(torch.from_numpy(content.images)), np.flip(content.masks, -1)
    return content._replace(images=images.numpy(), masks=np.ascontiguousarray(masks))


def warp_images(images: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Return uint8 [T, 3, S, S] moved by a 3 x 3 affine map, bilinear."""
    coefficients = _coefficients(motion)
    moved = np.empty_like(images)
    for frame, target in zip(images, moved):  # one at a time: all of them as floats take much memory
        image = tv_tensors.Image(torch.from_numpy(frame))
        target[:] = F.perspective(image, None, None, fill=list(FILL), coefficients=coefficients).numpy()
    return moved


def warp_masks(masks: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Return masks, bool [T, S, S] or [T, N, S, S], moved the same way by the nearest pixel."""
    coefficients = _coefficients(motion)
    moved = np.zeros_like(masks)
    for frame, target in zip(masks, moved):
        if frame.any():
            mask = tv_tensors.Mask(torch.from_numpy(frame).to(torch.uint8))
            target[:] = F.perspective(mask, None, None, coefficients=coefficients).numpy() > 0
    return moved


def draw_motion(settings: AugmentConfig, side: int, aspect: float, rng: np.random.Generator) -> np.ndarray:
    """Return an affine map, float64 [3, 3], of pixels of the side x side input; (0, 0) is the frame's corner.

    First comes the affine part about the centre, then the crop, then the zoom at a random place. Rotation and
    shear apply to the original aspect ratio, before the frame is squeezed to a square.
    """
    return _place(settings, side, rng) @ _cut(settings, side, rng) @ _affine(settings, side, aspect, rng)


def _affine(settings: AugmentConfig, side: int, aspect: float, rng: np.random.Generator) -> np.ndarray:
    angle = math.radians(rng.uniform(-settings.degrees, settings.degrees))
    slope = math.tan(math.radians(rng.uniform(-settings.shear, settings.shear)))
    zoom = _log_uniform(settings.scale, rng)
    shift = rng.uniform(-settings.translate, settings.translate, size=2) * side
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    # The input is square but the video is not: a turn in squeezed pixels would shear the scene.
    stretch = np.diag([math.sqrt(aspect), 1 / math.sqrt(aspect)])
    linear = zoom * np.linalg.inv(stretch) @ turn @ np.array([[1, slope], [0, 1]]) @ stretch
    centre = np.full(2, side / 2)
    return _map(linear, centre + shift - linear @ centre)


def _cut(settings: AugmentConfig, side: int, rng: np.random.Generator) -> np.ndarray:
    area, ratio = rng.uniform(*settings.crop_area), _log_uniform(settings.crop_ratio, rng)
    kept = np.minimum(1.0, np.sqrt([area * ratio, area / ratio]))  # of the width, of the height
    corner = rng.random(2) * (1 - kept) * side
    return _map(np.diag(1 / kept), -corner / kept)


def _place(settings: AugmentConfig, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return a zoom: the scene anywhere in the frame, or any part of it."""
    zoom = _log_uniform(settings.scale_jitter, rng)
    return _map(np.diag([zoom, zoom]), rng.random(2) * (1 - zoom) * side)


def _log_uniform(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """Draw a factor: twice as large is as likely as half as large."""
    return math.exp(rng.uniform(math.log(limits[0]), math.log(limits[1])))


def _map(linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return np.vstack([np.column_stack([linear, shift]), [0, 0, 1]])


def _coefficients(motion: np.ndarray) -> list[float]:
    """Return a map as torchvision takes it: from the moved frame's pixels to the original's."""
    back = np.linalg.inv(motion)
    return [*back[0].tolist(), *back[1].tolist(), 0.0, 0.0]


def make_mosaic(
    own: Content, others: Sequence[Content], max_objects: int | None, rng: np.random.Generator
) -> Content:
    """Return the clip and three others in random cells; objects keep the frames on which they are valid.

    The clip's own objects come first. Objects of the others fill free slots, drawn with equal probability,
    unless they become too small; their ids follow the largest of the clip. If one of its own objects would be
    lost, the clip does not change.
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
    """Return the clip with an object of `other` pasted over it, as a distractor that hides its objects.

    It moves as in its own clip, around a random place. On frames where its mask is unknown, the cut-out of
    the nearest frame with a known mask is used. If all `MAX_TRIES` places hide an object on its prompted
    frame, nothing is pasted.
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
    """Return the frames and masks of one object; None if it never is visible."""
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
