"""Other colours: light, contrast, saturation, hue, gray"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from sam2vt.config import AugmentConfig

Change = Callable[[torch.Tensor], torch.Tensor]  # of a frame, float [3, H, W] from 0 to 1

_ADJUST: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
}


def draw_colours(settings: AugmentConfig, rng: np.random.Generator) -> list[Change]:
    """What changes the colours of all frames of a clip, in order."""
    changes = draw_jitter(settings, rng)
    if settings.hue:
        changes.append(_by(F.adjust_hue, rng.uniform(-settings.hue, settings.hue)))
    if rng.random() < settings.grayscale_probability:
        changes.append(lambda frame: F.rgb_to_grayscale(frame, num_output_channels=3))
    return changes


def draw_jitter(settings: AugmentConfig, rng: np.random.Generator, prefix: str = "") -> list[Change]:
    """Brightness, contrast and saturation by factors around 1, as the settings of this prefix say."""
    limits = [(adjust, getattr(settings, prefix + name)) for name, adjust in _ADJUST.items()]
    return [_by(adjust, rng.uniform(1 - most, 1 + most)) for adjust, most in limits if most]


def _by(adjust: Callable[[torch.Tensor, float], torch.Tensor], factor: float) -> Change:
    return lambda frame: adjust(frame, factor)
