"""Draw clips from videos: a pure function of (records, spec, key)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

import numpy as np

from sam2vt.config import AugmentConfig
from sam2vt.core.data.clips.content import Content, draw_content
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.data.frames.feature_cache import as_tensors
from sam2vt.core.types import Clip, SampleKey, VideoRecord
from sam2vt.errors import DataError

log = logging.getLogger(__name__)

_LOOKED_AT = 1000  # videos that are looked at before a start, of any number
_AUGMENT_STREAM = 2  # keeps augmentation's random numbers apart; 1 is the order's

ClipArrays = dict[str, Any]  # a `Clip` with arrays instead of tensors, as decoders without torch make it


def make_clip(
    records: Sequence[VideoRecord], key: SampleKey, spec: ClipSpec, quarantine: bool = False
) -> Clip:
    """Return the clip of one draw, from video `key.index % len(records)`.

    Everything random depends only on (spec.seed, key.epoch, key.index), so any process draws the same clip.
    In its window an object is visible on an annotated frame; the window stays within `record.frames`. A video
    shorter than the clip is padded with the clip's last frame, without valid masks; a still is shown by a
    moving camera instead. Only the frames of the clip are decoded. Prompts are drawn after augmentation.
    Raises DataError for a video in which no object is ever visible; with `quarantine`, a blank clip with the
    reason is returned instead.
    """
    draw = draw_or_quarantine if quarantine else draw_clip
    return as_tensors(draw(records, key, spec))


def draw_clip(records: Sequence[VideoRecord], key: SampleKey, spec: ClipSpec) -> ClipArrays:
    """Draw a clip of arrays, as `make_clip` does; only augmentation loads torch."""
    place = key.index % len(records)
    record, sequence = records[place], [spec.seed, key.epoch, key.index]
    whole, spec = spec, spec.of(record)
    # From the key alone: no process, order or number of workers changes what is drawn.
    rng = np.random.default_rng(np.random.SeedSequence(sequence))
    frames, content = draw_content(record, spec, rng)
    if spec.augment != AugmentConfig():
        # Random numbers of its own: window, objects and kinds of prompts are those of the clip as it is.
        own = np.random.default_rng(np.random.SeedSequence(sequence, spawn_key=(_AUGMENT_STREAM,)))
        content = _augment(content, records, place, whole, own)
    prompts = _draw_prompts(content.masks, spec, rng)
    frames += [frames[-1]] * (spec.clip_length - len(frames))
    return _as_clip(content, prompts, record.video_id, frames, (record.height, record.width))


def _as_clip(
    content: Content, prompts: list[dict[str, Any]], video_id: str, frames: list[int], size: tuple[int, int]
) -> ClipArrays:
    return {
        **({"images": content.images} if content.features is None else {"features": content.features}),
        "masks": content.masks,
        "valid_masks": content.valid_masks,
        "prompts": prompts,
        "video_id": video_id,
        "frame_indices": frames,
        "object_ids": content.object_ids,
        "original_size": size,
        "num_objects": len(content.object_ids),
    }


def _augment(
    content: Content, records: Sequence[VideoRecord], place: int, spec: ClipSpec, rng: np.random.Generator
) -> Content:
    from sam2vt.core.data.clips.augment.clip import augment  # it loads torch

    def draw_other() -> Content:
        """Draw a clip of another video, if there is one; in a mixture it may be the same video again."""
        other = records[(place + int(rng.integers(1, max(len(records), 2)))) % len(records)]
        try:
            return draw_content(other, spec.of(other), rng)[1]
        except DataError as error:
            raise DataError(
                f"{error} (it was to go into a clip of video {records[place].video_id} by mosaic or paste)"
            ) from None

    record = records[place]
    settings = spec.of(record).augment
    return augment(content, settings, rng, draw_other, record.width / record.height, spec.max_objects)


def draw_or_quarantine(records: Sequence[VideoRecord], key: SampleKey, spec: ClipSpec) -> ClipArrays:
    """Draw a clip; a DataError becomes a blank clip whose `quarantined` gives the reason."""
    try:
        return draw_clip(records, key, spec)
    except DataError as error:
        place = key.index % len(records)
        try:
            video_id, source = records[place].video_id, records[place].source
        except DataError:  # a table is read by row, so the record may be what is damaged
            video_id, source = f"video {place}", ""
        told = {**asdict(key), "video_id": video_id, "source": source, "error": str(error)}
        return {**draw_blank(spec, video_id), "quarantined": told}


def draw_blank(spec: ClipSpec, video_id: str) -> ClipArrays:
    """Return a clip of arrays that counts nowhere, instead of one that cannot be made.

    It has black frames with the index -1 and one object that is valid on no frame. The object's prompt is on
    the last frame and of an allowed kind, so it costs the model almost nothing.
    """
    length, (height, width) = spec.clip_length, spec.image_size
    centre = np.zeros((1, 1, height, width), dtype=bool)
    centre[..., height // 2 - 8 : height // 2 + 8, width // 2 - 8 : width // 2 + 8] = True
    prompt = _prompt(centre, 0, 0, spec, np.random.default_rng(0), spec.prompts.prompt_types[0])
    prompt["frame_index"] = length - 1
    black = np.zeros((length, 3, height, width), dtype=np.uint8)
    masks, valid = np.zeros((length, 1, height, width), dtype=bool), np.zeros((length, 1), dtype=bool)
    features = None if spec.features is None else spec.features.blank(length)
    content = Content(black, masks, valid, [0], features)
    return _as_clip(content, [prompt], video_id, [-1] * length, (height, width))


def warn_short_videos(records: Sequence[VideoRecord], spec: ClipSpec) -> None:
    """Log a warning for each video that is shorter than a clip, among the first thousand.

    Call it once when a dataset is set up: `make_clip` itself logs nothing, in any number of workers.
    """
    told = set()
    for record in islice(records, _LOOKED_AT):
        own = spec.of(record)
        if len(record.frames) < own.span and not record.is_still and record.video_id not in told:
            told.add(record.video_id)  # a mixture may have it several times
            log.warning(
                "video %s (%s) has %d usable frames, fewer than the %d a clip needs (clip length %d, "
                "frame stride %d): its clips are padded by their last frame, which counts nowhere",
                *(record.video_id, record.source, len(record.frames)),
                *(own.span, own.clip_length, own.frame_stride),
            )


def _draw_prompts(masks: np.ndarray, spec: ClipSpec, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return each object's prompt on its first visible frame, in slot order, then those on further frames.

    Further frames are drawn for the clip, not for each object, so that objects share their conditioning
    frames; an object keeps its kind of prompt.
    """
    is_visible = masks.any(axis=(2, 3))  # [T, N]
    first = is_visible.argmax(axis=0)
    prompts = [_prompt(masks, int(t), n, spec, rng) for n, t in enumerate(first)]
    later = is_visible & (np.arange(len(masks))[:, None] > first)
    num_extra = int(rng.integers(spec.max_conditioning_frames))
    candidates = np.flatnonzero(later.any(axis=1))
    extra = sorted(rng.choice(candidates, size=min(num_extra, len(candidates)), replace=False).tolist())
    for t in extra:
        for n in np.flatnonzero(later[t]).tolist():
            prompts.append(_prompt(masks, t, n, spec, rng, prompts[n]["type"]))
    return prompts


def _prompt(
    masks: np.ndarray, t: int, n: int, spec: ClipSpec, rng: np.random.Generator, kind: str | None = None
) -> dict[str, Any]:
    return {**spec.prompts.draw(masks[t, n], rng, kind), "object_index": n, "frame_index": t}
