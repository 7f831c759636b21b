"""The frames of a video that make a clip, and the objects that it shows."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.data.masks.loading import load_masks, void_hint
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

FrameMasks = dict[int, np.ndarray]  # visible objects of one frame: object id -> bool [height, width]


class Window(NamedTuple):
    """A clip's frames in its own order, and the visible objects of those of them that are annotated."""

    frames: list[int]
    visible: dict[int, FrameMasks]

    @property
    def early(self) -> set[int]:
        """Objects that are visible before the last frame, where there is something left to track."""
        return {i for frame, masks in self.visible.items() if frame != self.frames[-1] for i in masks}


def choose_window(record: VideoRecord, spec: ClipSpec, rng: np.random.Generator) -> Window:
    """Choose the frames of a clip: a random window that shows an object before its last frame.

    Failing that, one that shows an object at all. Stride and direction are drawn first and last: a stride
    that the video is too short for becomes the longest that fits; a clip runs backwards only where that
    leaves something to track. Raises DataError where no object is ever visible.
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

    An object that only appears on the last frame leaves nothing to track: it is taken only when there is
    no other. So is one smaller than `min_object_pixels` wherever it is visible. Where objects are too many,
    "uniform" draws them alike, "visible" by the number of frames and "large" by the largest area they show.
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
    places = np.array(record.annotated_frames, dtype=np.int64) - start
    # Frames beyond the last window are in none.
    annotated[places[places < len(annotated)]] = True
    held = np.zeros(num_starts, dtype=bool)
    for offset in range(0, spec.span, spec.frame_stride):
        held |= annotated[offset : offset + num_starts]
    return start + np.flatnonzero(held)
