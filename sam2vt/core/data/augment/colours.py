"""The same change of colours for all frames of a clip"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from sam2vt.config import AugmentConfig

_ADJUST: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
}
COLOUR_FIELDS = (*_ADJUST, "hue", "grayscale_probability")


def recolour(images: torch.Tensor, settings: AugmentConfig, rng: np.random.Generator) -> torch.Tensor:
    """float [T, 3, H, W] from 0 to 1: other brightness, contrast, saturation and hue, then perhaps gray."""
    images = jitter(images, settings, rng)
    if settings.hue:
        images = F.adjust_hue(images, rng.uniform(-settings.hue, settings.hue))
    if rng.random() < settings.grayscale_probability:
        images = F.rgb_to_grayscale(images, num_output_channels=3)
    return images


def jitter(
    images: torch.Tensor, settings: AugmentConfig, rng: np.random.Generator, prefix: str = ""
) -> torch.Tensor:
    """Brightness, contrast and saturation by factors around 1, as the settings of this prefix say."""
    for name, adjust in _ADJUST.items():
        most = getattr(settings, prefix + name)
        if most:
            images = adjust(images, rng.uniform(1 - most, 1 + most))
    return images
