"""A clip altered as its settings say: other clips, geometry, colours, then each frame of its own"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from sam2vt.config import AugmentConfig
from sam2vt.core.data.clips.augment.colours import Change, draw_colours
from sam2vt.core.data.clips.augment.content import Content
from sam2vt.core.data.clips.augment.frames import draw_spoils
from sam2vt.core.data.clips.augment.geometry import move
from sam2vt.core.data.clips.augment.mosaic import make_mosaic
from sam2vt.core.data.clips.augment.paste import paste_object


def augment(
    content: Content,
    settings: AugmentConfig,
    rng: np.random.Generator,
    draw_other: Callable[[], Content],
    aspect: float = 1.0,
    max_objects: int | None = None,
) -> Content:
    """The altered clip, in this order: mosaic, paste, flip, motion, colours, each frame of its own.

    Every number comes from `rng` and torch's generators stay as they are; one thread computes, so that
    any process gives the same bytes. `draw_other` draws another clip of the same shape; it is called
    for mosaics and pastes alone. `aspect` is the video's width by its height. No object is lost where it
    is prompted, and `valid_masks` stays true of the masks: an object moved out of sight is absent.
    """
    with _one_thread():
        if rng.random() < settings.mosaic_probability:
            content = make_mosaic(content, [draw_other() for _ in range(3)], max_objects, rng)
        if rng.random() < settings.paste_probability:
            content = paste_object(content, draw_other(), rng)
        content = move(content, settings, aspect, rng)
        images = _change_pixels(content.images, settings, rng)
        return content._replace(images=images)


def _change_pixels(images: np.ndarray, settings: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Frame after frame, which is faster than all at once and takes less memory."""
    colours, changed = draw_colours(settings, rng), np.empty(images.shape, dtype=np.uint8)
    for image, target in zip(images, changed):
        changes = [*colours, *draw_spoils(settings, rng)]
        target[:] = _change(image, changes) if changes else image
    return changed


def _change(image: np.ndarray, changes: list[Change]) -> np.ndarray:
    frame = torch.from_numpy(image) / 255  # rounded once, after all of them
    for change in changes:
        frame = change(frame)
    return (frame * 255).round_().to(torch.uint8).numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums over several threads may differ in their last bit."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
