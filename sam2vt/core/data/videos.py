"""Read whole videos for evaluation: the prompts of objects, and frames one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.frames.images import resize_mask
from sam2vt.core.data.frames.reading import iterate_frames
from sam2vt.core.data.masks.loading import iterate_first_masks
from sam2vt.core.types import Prompt, VideoRecord


def first_prompts(
    record: VideoRecord,
    image_size: int | tuple[int, int],
    generator: PromptGenerator,
    rng: np.random.Generator,
    as_stock: bool = False,
) -> tuple[list[Prompt], list[int]]:
    """Return each object's prompt on its first visible frame, and the objects' ids in order.

    `frame_index` of a prompt counts from `record.frames.start`; coordinates are pixels of the model's input.
    `as_stock` as for `resize_mask`. Raises DataError if no object is ever visible.
    """
    prompts: dict[int, Prompt] = {}
    for index, object_id, mask in iterate_first_masks(record):
        prompt = generator.generate_prompts(resize_mask(mask, _size(image_size), as_stock), rng=rng)
        prompt["frame_index"] = index - record.frames.start
        prompts[object_id] = prompt
    object_ids = sorted(prompts)
    for n, object_id in enumerate(object_ids):
        prompts[object_id]["object_index"] = n
    return [prompts[object_id] for object_id in object_ids], object_ids


def video_frames(
    record: VideoRecord, image_size: int | tuple[int, int], as_stock: bool = False
) -> Iterator[torch.Tensor]:
    """Yield the frames of `record.frames` in order, uint8 [3, H, W] at the model's size, in constant memory.

    `as_stock` as for `resize_frame`.
    """
    for frame in iterate_frames(record, _size(image_size), as_stock):
        yield torch.from_numpy(frame).permute(2, 0, 1).contiguous()


def _size(image_size: int | tuple[int, int]) -> tuple[int, int]:
    return (image_size, image_size) if isinstance(image_size, int) else image_size
