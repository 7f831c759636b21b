"""What the loss measures on predicted masks against target masks, from the sums over their pixels.

Every term takes the sums of masks (see `mask_sums`), the area of their targets and the number of their
pixels, and returns one number a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from sam2vt.core.training.loss_terms.mask_sums import Sums

MaskTerm = Callable[[Sums, Tensor, int, float], Tensor]


def bce(sums: Sums, target_area: Tensor, pixels: int, smooth: float) -> Tensor:
    """Binary cross entropy, mean over the pixels."""
    return sums["cross_entropy"] / pixels


def focal(sums: Sums, target_area: Tensor, pixels: int, smooth: float) -> Tensor:
    """Sigmoid focal loss (alpha 0.25, gamma 2), mean over the pixels."""
    return sums["focal"] / pixels


def dice(sums: Sums, target_area: Tensor, pixels: int, smooth: float) -> Tensor:
    """1 - (2 |p g| + smooth) / (|p| + |g| + smooth), sums over the pixels."""
    return 1 - (2 * sums["overlap"] + smooth) / _positive(sums["area"] + target_area + smooth)


def soft_jaccard(sums: Sums, target_area: Tensor, pixels: int, smooth: float) -> Tensor:
    """1 - (|p g| + smooth) / (|p| + |g| - |p g| + smooth), sums over the pixels."""
    union = sums["area"] + target_area - sums["overlap"]
    return 1 - (sums["overlap"] + smooth) / _positive(union + smooth)


MASK_TERMS: dict[str, MaskTerm] = {"bce": bce, "focal": focal, "dice": dice, "iou": soft_jaccard}
_MADE_OF = {
    "bce": ("cross_entropy",),
    "focal": ("cross_entropy", "focal"),
    "dice": ("overlap", "area"),
    "iou": ("overlap", "area"),
}
FOR_TRUE_IOU = ("intersection", "predicted")


def sums_for(terms: Iterable[str]) -> list[str]:
    """The sums that these terms are made of."""
    return list(dict.fromkeys(name for term in terms for name in _MADE_OF[term]))


def true_iou(sums: Sums, target_area: Tensor) -> Tensor:
    """IoU of the thresholded masks (logit > 0, target > 0.5); 0 where both are empty."""
    union = sums["predicted"] + target_area - sums["intersection"]
    return sums["intersection"] / union.clamp(min=1)


def _positive(denominator: Tensor) -> Tensor:
    # Only smooth=0 on two empty masks gets here; those entries are weighted 0, and 0 x NaN is NaN.
    return denominator.clamp(min=torch.finfo(denominator.dtype).tiny)
