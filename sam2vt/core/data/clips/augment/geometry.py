"""One motion for all frames of a clip and their masks: flipped, then turned, sheared, cut out, zoomed

All of it but the flip is one affine map, so that pixels are interpolated once.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from sam2vt.config import AugmentConfig
from sam2vt.core.data.clips.content import Content, are_kept, prompted_frames

MAX_TRIES = 8  # motions that are drawn until one loses no object
FILL = (124, 116, 104)  # beyond the frame: the mean colour, about zero for the model

_MOTION = ("degrees", "translate", "scale", "shear", "crop_area", "crop_ratio", "scale_jitter")


def move(content: Content, settings: AugmentConfig, aspect: float, rng: np.random.Generator) -> Content:
    """Return the clip moved; where all `MAX_TRIES` motions lose an object, it is only flipped, if at all.

    An object is lost where its mask is nearly gone on the frame on which it is prompted.
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
    """Return the clip mirrored: left becomes right."""
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
    """Return bool [T, S, S] or [T, N, S, S] alike, by the nearest pixel; nothing beyond the frame."""
    coefficients = _coefficients(motion)
    moved = np.zeros_like(masks)
    for frame, target in zip(masks, moved):
        if frame.any():
            mask = tv_tensors.Mask(torch.from_numpy(frame).to(torch.uint8))
            target[:] = F.perspective(mask, None, None, coefficients=coefficients).numpy() > 0
    return moved


def draw_motion(settings: AugmentConfig, side: int, aspect: float, rng: np.random.Generator) -> np.ndarray:
    """Return an affine map, float64 [3, 3], of pixels of the side x side input; (0, 0) is the frame's corner.

    First the affine part about the centre, then the cut, then the zoom that lies anywhere. Turned and
    sheared is the scene as it looked before it was squeezed to a square.
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
