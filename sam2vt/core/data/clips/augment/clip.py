"""Augment a clip by its settings: other clips, geometry, colours, then each frame by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from sam2vt.config import AugmentConfig
from sam2vt.core.data.clips.augment.geometry import make_mosaic, move, paste_object
from sam2vt.core.data.clips.content import Content

Change = Callable[[torch.Tensor], torch.Tensor]  # of a frame, float [3, H, W] from 0 to 1


def augment(
    content: Content,
    settings: AugmentConfig,
    rng: np.random.Generator,
    draw_other: Callable[[], Content],
    aspect: float = 1.0,
    max_objects: int | None = None,
) -> Content:
    """Return the augmented clip, in this order: mosaic, paste, flip, motion, colours, single frames.

    Every random number comes from `rng`, and torch's generators do not change. One thread computes, so any
    process gives the same bytes. `draw_other` draws another clip of the same shape; only mosaics and pastes
    call it. `aspect` is the width of the video divided by its height. No object is lost on its prompted
    frame. `valid_masks` stays correct: an object that leaves the frame is absent.
    """
    with _one_thread():
        if rng.random() < settings.mosaic_probability:
            content = make_mosaic(content, [draw_other() for _ in range(3)], max_objects, rng)
        if rng.random() < settings.paste_probability:
            content = paste_object(content, draw_other(), rng)
        # After mosaic and paste, so that all parts of the frame move as one.
        content = move(content, settings, aspect, rng)
        images = _change_pixels(content.images, settings, rng)
        return content._replace(images=images)


def _change_pixels(images: np.ndarray, settings: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Return the changed images, made frame by frame: faster than all at once, in less memory."""
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
    """Let torch use one thread: sums over several may differ in their last bit."""
    # Setting the number costs more than reading it, and workers have one thread anyway.
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def draw_colours(settings: AugmentConfig, rng: np.random.Generator) -> list[Change]:
    """Return the colour changes for all frames of a clip, in order."""
    changes = draw_jitter(settings, rng)
    if settings.hue:
        changes.append(_adjust("hue", rng.uniform(-settings.hue, settings.hue)))
    if rng.random() < settings.grayscale_probability:
        changes.append(lambda frame: F.rgb_to_grayscale(frame, num_output_channels=3))
    return changes


def draw_jitter(settings: AugmentConfig, rng: np.random.Generator, prefix: str = "") -> list[Change]:
    """Return changes of brightness, contrast and saturation by factors around 1."""
    limits = [(name, getattr(settings, prefix + name)) for name in ("brightness", "contrast", "saturation")]
    return [_adjust(name, rng.uniform(1 - most, 1 + most)) for name, most in limits if most]


def _adjust(name: str, factor: float) -> Change:
    adjust = getattr(F, f"adjust_{name}")
    return lambda frame: adjust(frame, factor)


def draw_spoils(settings: AugmentConfig, rng: np.random.Generator) -> list[Change]:
    """Return the changes for a single frame of a clip, in order."""
    changes = draw_jitter(settings, rng, "frame_")
    for probability, limits, spoil in (
        (settings.blur_probability, settings.blur_sigma, _blur),
        (settings.noise_probability, settings.noise_std, _add_noise),
        (settings.jpeg_probability, settings.jpeg_quality, _compress),
    ):
        if rng.random() < probability:
            changes.append(spoil(rng.uniform(*limits), rng))
    return changes


def _blur(sigma: float, rng: np.random.Generator) -> Change:
    # Three standard deviations hold 99.7 percent of the weight.
    size = 2 * math.ceil(3 * sigma) + 1
    return lambda frame: F.gaussian_blur(frame, [size, size], [sigma, sigma])


def _add_noise(std: float, rng: np.random.Generator) -> Change:
    def add(frame: torch.Tensor) -> torch.Tensor:
        noise = torch.from_numpy(rng.standard_normal(tuple(frame.shape), dtype=np.float32))
        return (frame + noise * std).clamp_(0, 1)

    return add


def _compress(quality: float, rng: np.random.Generator) -> Change:
    """Return JPEG compression by OpenCV; torchvision's own is to be removed."""
    options = [cv2.IMWRITE_JPEG_QUALITY, round(quality)]

    def compress(frame: torch.Tensor) -> torch.Tensor:
        pixels = (frame * 255).round_().to(torch.uint8).permute(1, 2, 0).numpy()
        # OpenCV takes BGR.
        _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), options)
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert decoded is not None
        return torch.from_numpy(np.ascontiguousarray(decoded[..., ::-1])).permute(2, 0, 1) / 255

    return compress
