"""What a camera does to single frames: light, blur, noise, compression"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from sam2vt.config import AugmentConfig
from sam2vt.core.data.clips.augment.colours import Change, draw_jitter


def draw_spoils(settings: AugmentConfig, rng: np.random.Generator) -> list[Change]:
    """What changes one frame of a clip beside its other frames, in order."""
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
    size = 2 * math.ceil(3 * sigma) + 1
    return lambda frame: F.gaussian_blur(frame, [size, size], [sigma, sigma])


def _add_noise(std: float, rng: np.random.Generator) -> Change:
    def add(frame: torch.Tensor) -> torch.Tensor:
        noise = torch.from_numpy(rng.standard_normal(tuple(frame.shape), dtype=np.float32))
        return (frame + noise * std).clamp_(0, 1)

    return add


def _compress(quality: float, rng: np.random.Generator) -> Change:
    """By OpenCV: torchvision's own is to be removed."""
    options = [cv2.IMWRITE_JPEG_QUALITY, round(quality)]

    def compress(frame: torch.Tensor) -> torch.Tensor:
        pixels = (frame * 255).round_().to(torch.uint8).permute(1, 2, 0).numpy()
        _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), options)
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert decoded is not None
        return torch.from_numpy(np.ascontiguousarray(decoded[..., ::-1])).permute(2, 0, 1) / 255

    return compress
