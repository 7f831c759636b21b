"""Choose frames and objects of a clip, then read them from a video or draw them from a still."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.data.frames.images import resize_mask
from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.masks.loading import known_objects, load_masks, void_hint
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

FrameMasks = dict[int, np.ndarray]  # visible objects of one frame: object id -> bool [height, width]

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
    features: list[np.ndarray] | None = None  # instead of images, which are none then


def draw_content(record: VideoRecord, spec: ClipSpec, rng: np.random.Generator) -> tuple[list[int], Content]:
    """Return the frames drawn from a video, and their masks.

    Raises DataError if no object is ever visible, or a frame or mask cannot be read.
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
    """Return the first frame on which each object is visible, [N]; 0 if it never is."""
    return masks.any(axis=(2, 3)).argmax(axis=0)


def are_kept(before: np.ndarray, after: np.ndarray) -> bool:
    """Return whether no object is lost; both masks, bool [N, H, W], are of the prompted frames.

    An object that had fewer than `FEW_PIXELS` before must not become smaller.
    """
    areas, left = np.count_nonzero(before, axis=(1, 2)), np.count_nonzero(after, axis=(1, 2))
    return bool((left >= np.minimum(areas, FEW_PIXELS)).all())


def _stack_masks(
    frames: list[int], visible: dict[int, FrameMasks], object_ids: list[int], spec: ClipSpec
) -> np.ndarray:
    """Return bool [T, N, H, W]; empty if an object is absent or its mask is not known."""
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

    The first frame is the still itself. From there, zoom, turn and shift follow a curve through one random
    point to another. So the motion changes its direction like that of a hand-held camera.
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
    """Return a mask, bool [H, W], moved the same way, [T, H, W]; mirrored parts belong to no object."""
    size, values = mask.shape[::-1], mask.astype(np.uint8)
    return np.stack([cv2.warpAffine(values, each, size, flags=cv2.INTER_NEAREST) for each in maps]) > 0


def _affine(pose: np.ndarray, side: int) -> np.ndarray:
    centre = (side - 1) / 2
    turned = cv2.getRotationMatrix2D((centre, centre), float(pose[0]), math.exp(pose[1]))
    turned[:, 2] += pose[2:] * side
    return turned


class Window(NamedTuple):
    """The frames of a clip in its own order, and the visible objects of its annotated frames."""

    frames: list[int]
    visible: dict[int, FrameMasks]

    @property
    def early(self) -> set[int]:
        """Objects that are visible before the last frame, so that something is left to track."""
        return {i for frame, masks in self.visible.items() if frame != self.frames[-1] for i in masks}


def choose_window(record: VideoRecord, spec: ClipSpec, rng: np.random.Generator) -> Window:
    """Choose the frames of a clip: a random window that shows an object before the last frame.

    If there is none, the window shows an object anywhere. The stride is drawn first, and is reduced to the
    longest that fits into the video. The direction is drawn last: a clip runs backwards only if that leaves
    something to track. Raises DataError if no object is ever visible.
    """
    stride = _draw_stride(len(record.frames), spec, rng)
    window = _try_windows(record, replace(spec, frame_stride=stride, max_frame_stride=None), rng)
    # Short-circuited: at probability 0 no number is drawn, and clips stay those of before.
    if spec.reverse_probability and rng.random() < spec.reverse_probability:
        backwards = Window(window.frames[::-1], window.visible)
        return backwards if backwards.early else window
    return window


def choose_objects(window: Window, spec: ClipSpec, rng: np.random.Generator) -> list[int]:
    """Return the ids of the clip's objects in order, at most `max_objects`.

    An object that only appears on the last frame leaves nothing to track. It is taken only if there is no
    other, and so is one that is always smaller than `min_object_pixels`. If there are too many objects,
    "uniform" draws with equal probability, "visible" by number of frames and "large" by largest area.
    """
    candidates = sorted(window.early or {i for masks in window.visible.values() for i in masks})
    is_by_size = spec.min_object_pixels or spec.object_sampling == "large"
    areas = _largest_areas(window, candidates) if is_by_size else {}
    if spec.min_object_pixels:
        large = [each for each in candidates if areas[each] >= spec.min_object_pixels]
        candidates = large or [max(candidates, key=lambda each: areas[each])]
    if spec.max_objects is None or len(candidates) <= spec.max_objects:
        return candidates
    shares = _shares(window, candidates, areas, spec.object_sampling)
    return sorted(rng.choice(candidates, size=spec.max_objects, replace=False, p=shares).tolist())


def _shares(window: Window, candidates: list[int], areas: dict[int, int], sampling: str) -> np.ndarray | None:
    """Return how likely each object is drawn; None: alike."""
    if sampling == "uniform":
        return None
    frames = {each: sum(each in masks for masks in window.visible.values()) for each in candidates}
    weights = np.array([(areas if sampling == "large" else frames)[each] for each in candidates])
    return weights / weights.sum()


def _largest_areas(window: Window, object_ids: list[int]) -> dict[int, int]:
    """Return object id -> pixels of the video that it covers where it is largest."""
    areas = dict.fromkeys(object_ids, 0)
    for masks in window.visible.values():
        for object_id in areas.keys() & masks.keys():
            areas[object_id] = max(areas[object_id], int(np.count_nonzero(masks[object_id])))
    return areas


def _draw_stride(num_frames: int, spec: ClipSpec, rng: np.random.Generator) -> int:
    if spec.max_frame_stride is None:
        return spec.frame_stride
    # A stride that does not fit would make a clip of padding.
    longest = (num_frames - 1) // max(spec.clip_length - 1, 1)
    drawn = int(rng.integers(spec.frame_stride, spec.max_frame_stride + 1))
    return max(spec.frame_stride, min(drawn, longest))


def _try_windows(record: VideoRecord, spec: ClipSpec, rng: np.random.Generator) -> Window:
    """Try windows in random order; frames that are known to be empty are not read again."""
    empty: set[int] = set()
    last_only: Window | None = None
    # All starts are permuted at once, so that each window is tried at most once.
    for start in rng.permutation(_window_starts(record, spec)).tolist():
        frames = list(range(start, min(start + spec.span, record.frames.stop), spec.frame_stride))
        annotated = [i for i in frames if i in record.annotations]
        visible = {i: {} if i in empty else load_masks(record, i) for i in annotated}
        window = Window(frames, visible)
        if window.early or (len(frames) == 1 and any(visible.values())):
            return window
        # A window that only shows an object at its end trains nothing but is better than none.
        if last_only is None and any(visible.values()):
            last_only = window
        empty.update(i for i in annotated if not visible[i])
    if last_only is not None:
        return last_only
    where = f"video {record.video_id} ({record.source}), frames {record.frames.start} to {record.frames[-1]}"
    num = len(record.annotated_frames)
    raise DataError(
        f"{where}: no object is visible on any of the {num} annotated frames, so no clip can be drawn: "
        f"leave the video out, or check its masks and the split{void_hint(record)}"
    )


def _window_starts(record: VideoRecord, spec: ClipSpec) -> np.ndarray:
    """Return the first frames of all windows that hold an annotated frame.

    In a video shorter than a clip, one window for each phase of the stride.
    """
    start, length = record.frames.start, len(record.frames)
    if not length:
        raise DataError(f"video {record.video_id} ({record.source}) has no usable frame")
    num_starts = length - spec.span + 1 if length >= spec.span else min(spec.frame_stride, length)
    annotated = np.zeros(num_starts + spec.span, dtype=bool)
    annotated[np.array(record.annotated_frames, dtype=np.int64) - start] = True
    held = np.zeros(num_starts, dtype=bool)
    for offset in range(0, spec.span, spec.frame_stride):
        held |= annotated[offset : offset + num_starts]
    return start + np.flatnonzero(held)
