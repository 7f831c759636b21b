"""Changes of single frames, as a camera makes them: light, blur, noise, compression"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from sam2vt.config import AugmentConfig
from sam2vt.core.data.augment.colours import jitter

FRAME_FIELDS = (
    "frame_brightness",
    "frame_contrast",
    "frame_saturation",
    "blur_probability",
    "noise_probability",
    "jpeg_probability",
)


def spoil_frames(images: torch.Tensor, settings: AugmentConfig, rng: np.random.Generator) -> torch.Tensor:
    """float [T, 3, H, W] from 0 to 1, each frame changed by a draw of its own, in the order of the fields."""
    return torch.stack([_spoil(frame, settings, rng) for frame in images])


def _spoil(frame: torch.Tensor, settings: AugmentConfig, rng: np.random.Generator) -> torch.Tensor:
    frame = jitter(frame, settings, rng, "frame_")
    for probability, limits, spoil in (
        (settings.blur_probability, settings.blur_sigma, _blur),
        (settings.noise_probability, settings.noise_std, _add_noise),
        (settings.jpeg_probability, settings.jpeg_quality, _compress),
    ):
        if rng.random() < probability:
            frame = spoil(frame, rng.uniform(*limits), rng)
    return frame


_Spoil = Callable[[torch.Tensor, float, np.random.Generator], torch.Tensor]


def _blur(frame: torch.Tensor, sigma: float, rng: np.random.Generator) -> torch.Tensor:
    size = 2 * math.ceil(3 * sigma) + 1
    return F.gaussian_blur(frame, [size, size], [sigma, sigma])


def _add_noise(frame: torch.Tensor, std: float, rng: np.random.Generator) -> torch.Tensor:
    noise = torch.from_numpy(rng.standard_normal(frame.shape, dtype=np.float32))
    return (frame + noise * std).clamp_(0, 1)


def _compress(frame: torch.Tensor, quality: float, rng: np.random.Generator) -> torch.Tensor:
    """By OpenCV: torchvision's own is to be removed."""
    pixels = (frame * 255).round_().to(torch.uint8).permute(1, 2, 0).numpy()
    options = [cv2.IMWRITE_JPEG_QUALITY, round(quality)]
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), options)
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return torch.from_numpy(np.ascontiguousarray(decoded[..., ::-1])).permute(2, 0, 1) / 255
