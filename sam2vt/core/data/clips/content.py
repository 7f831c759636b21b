"""The frames and masks that a clip shows, read from a video or drawn from a still."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.data.clips.windows import FrameMasks, choose_objects, choose_window
from sam2vt.core.data.frames.images import resize_mask
from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.masks.loading import known_objects
from sam2vt.core.types import VideoRecord

# Of the camera over a still.
MAX_DEGREES = 15.0
MAX_ZOOM = 1.3  # in or out
MAX_SHIFT = 0.2  # of the image's side
# A pose: turn in degrees, logarithm of the zoom, shift right, shift down.
_MOST = np.array([MAX_DEGREES, math.log(MAX_ZOOM), MAX_SHIFT, MAX_SHIFT])
FEW_PIXELS = 16  # of the model's input: an object with fewer on its prompted frame counts as lost


class Content(NamedTuple):
    """A clip without its prompts."""

    images: np.ndarray  # uint8 [T, 3, H, W], RGB
    masks: np.ndarray  # bool [T, N, H, W]
    valid_masks: np.ndarray  # bool [T, N]
    object_ids: list[int]  # [N]
    features: list[np.ndarray] | None = None  # in place of images, which are none then


def draw_content(record: VideoRecord, spec: ClipSpec, rng: np.random.Generator) -> tuple[list[int], Content]:
    """Return the frames that are drawn of a video, and what they show.

    Raises DataError where no object is ever visible, or a frame or mask cannot be read.
    """
    window = choose_window(record, spec, rng)
    frames, visible = window
    object_ids = choose_objects(window, spec, rng)
    if record.is_still:
        return frames, _draw_still(record, visible[frames[0]], object_ids, spec, rng)
    masks = _stack_masks(frames, visible, object_ids, spec)
    valid = _stack_valid(record, frames, object_ids, spec)
    if spec.features is not None:
        features = [_padded(level, spec) for level in spec.features.read(record, frames)]
        return frames, Content(np.empty(0, np.uint8), masks, valid, object_ids, features)
    return frames, Content(_read_images(record, frames, spec), masks, valid, object_ids)


def prompted_frames(masks: np.ndarray) -> np.ndarray:
    """Return the first frame on which each object is visible, [N]; 0 where it never is."""
    return masks.any(axis=(2, 3)).argmax(axis=0)


def are_kept(before: np.ndarray, after: np.ndarray) -> bool:
    """Return whether no object is lost; bool [N, H, W] each, the objects on their prompted frames.

    An object that had fewer than `FEW_PIXELS` before must not have become smaller.
    """
    areas, left = np.count_nonzero(before, axis=(1, 2)), np.count_nonzero(after, axis=(1, 2))
    return bool((left >= np.minimum(areas, FEW_PIXELS)).all())


def _stack_masks(
    frames: list[int], visible: dict[int, FrameMasks], object_ids: list[int], spec: ClipSpec
) -> np.ndarray:
    """Return bool [T, N, H, W]; empty where an object is absent or its mask is not known."""
    masks = np.zeros((spec.clip_length, len(object_ids), *spec.image_size), dtype=bool)
    for t, frame in enumerate(frames):
        for n, object_id in enumerate(object_ids):
            mask = visible.get(frame, {}).get(object_id)
            if mask is not None:
                masks[t, n] = resize_mask(mask, spec.image_size)
    return masks


def _stack_valid(record: VideoRecord, frames: list[int], object_ids: list[int], spec: ClipSpec) -> np.ndarray:
    """Return bool [T, N]: where an object's mask is known, be it there or absent."""
    valid = np.zeros((spec.clip_length, len(object_ids)), dtype=bool)
    for t, frame in enumerate(frames):
        if frame in record.annotations:
            known = known_objects(record, frame)
            valid[t] = [known is None or object_id in known for object_id in object_ids]
    return valid


def _read_images(record: VideoRecord, frames: list[int], spec: ClipSpec) -> np.ndarray:
    """Return uint8 [T, 3, H, W]; the last frame stands in for those that the video lacks."""
    read = read_frames(record, frames, size=spec.image_size)
    images = np.empty((spec.clip_length, 3, *spec.image_size), dtype=np.uint8)
    for frame, image in zip(read, images):
        cv2.split(frame, list(image))  # into its channels, several times as fast as a transposed copy
    images[len(read) :] = images[len(read) - 1]
    return images


def _padded(read: np.ndarray, spec: ClipSpec) -> np.ndarray:
    """Repeat the last frame for those that the video lacks."""
    lacking = spec.clip_length - len(read)
    return np.concatenate([read, np.repeat(read[-1:], lacking, axis=0)]) if lacking else read


def _draw_still(
    record: VideoRecord, masks: FrameMasks, object_ids: list[int], spec: ClipSpec, rng: np.random.Generator
) -> Content:
    """Return what a clip of one image shows; where an object has left it, it is absent."""
    assert spec.features is None, "a moved image has no features"
    maps = draw_motion(spec.clip_length, spec.image_size[0], rng)
    (image,) = read_frames(record, [0], size=spec.image_size)
    moved = [move_mask(resize_mask(masks[each], spec.image_size), maps) for each in object_ids]
    images = np.ascontiguousarray(move(image, maps).transpose(0, 3, 1, 2))
    valid = np.ones((spec.clip_length, len(object_ids)), dtype=bool)
    return Content(images, np.stack(moved, axis=1), valid, object_ids)


def draw_motion(num_frames: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Draw affine maps from the still to each frame, float64 [T, 2, 3], in pixels of a side x side image.

    The first frame is the still itself. From there zoom, turn and shift follow a curve bent by one random
    point on the way to another, so that the motion changes its direction as a hand-held camera's does.
    """
    middle, end = rng.uniform(-_MOST, _MOST, (2, 4))
    maps = np.empty((num_frames, 2, 3))
    for t in range(num_frames):
        s = t / max(num_frames - 1, 1)
        maps[t] = _affine(2 * s * (1 - s) * middle + s * s * end, side)
    return maps


def move(image: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Return an image uint8 [H, W, 3] as the camera shows it, [T, H, W, 3]; beyond its edge it is
    mirrored.
    """
    size = image.shape[1::-1]
    frames = [cv2.warpAffine(image, each, size, borderMode=cv2.BORDER_REFLECT_101) for each in maps]
    return np.stack(frames)


def move_mask(mask: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Return a mask bool [H, W] alike, [T, H, W]; mirrored parts are no object's, as nothing tells
    them apart.
    """
    size, values = mask.shape[::-1], mask.astype(np.uint8)
    return np.stack([cv2.warpAffine(values, each, size, flags=cv2.INTER_NEAREST) for each in maps]) > 0


def _affine(pose: np.ndarray, side: int) -> np.ndarray:
    centre = (side - 1) / 2
    turned = cv2.getRotationMatrix2D((centre, centre), float(pose[0]), math.exp(pose[1]))
    turned[:, 2] += pose[2:] * side
    return turned
