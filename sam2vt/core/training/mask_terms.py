"""What the loss measures on one predicted mask against one target mask.

Every function takes K masks: `logits`, `probabilities` and `targets`, each [K,H,W], targets between 0
and 1, and returns one number a mask [K].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

FOCAL_ALPHA = 0.25  # weight of the pixels of the object; the background's is 1 - alpha
FOCAL_GAMMA = 2.0

MaskTerm = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def bce(logits: Tensor, probabilities: Tensor, targets: Tensor, smooth: float) -> Tensor:
    """Binary cross entropy, mean over the pixels."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").flatten(1).mean(1)


def focal(logits: Tensor, probabilities: Tensor, targets: Tensor, smooth: float) -> Tensor:
    """Sigmoid focal loss, mean over the pixels: cross entropy that fades on pixels already right."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    error = probabilities + targets - 2 * probabilities * targets  # 1 - probability of the true class
    alpha = (1 - FOCAL_ALPHA) + (2 * FOCAL_ALPHA - 1) * targets
    return (alpha * error**FOCAL_GAMMA * cross_entropy).flatten(1).mean(1)


def dice(logits: Tensor, probabilities: Tensor, targets: Tensor, smooth: float) -> Tensor:
    """1 - (2 |p g| + smooth) / (|p| + |g| + smooth), sums over the pixels."""
    overlap, area = _overlap_and_area(probabilities, targets)
    return 1 - (2 * overlap + smooth) / _positive(area + smooth)


def soft_jaccard(logits: Tensor, probabilities: Tensor, targets: Tensor, smooth: float) -> Tensor:
    """1 - (|p g| + smooth) / (|p| + |g| - |p g| + smooth), sums over the pixels."""
    overlap, area = _overlap_and_area(probabilities, targets)
    return 1 - (overlap + smooth) / _positive(area - overlap + smooth)


MASK_TERMS: dict[str, MaskTerm] = {"bce": bce, "focal": focal, "dice": dice, "iou": soft_jaccard}


def true_iou(logits: Tensor, targets: Tensor) -> Tensor:
    """IoU [K] of the thresholded masks (logit > 0, target > 0.5); 0 where both are empty."""
    predicted, there = logits.detach() > 0, targets > 0.5
    intersection = (predicted & there).flatten(1).sum(1)
    union = (predicted | there).flatten(1).sum(1)
    return intersection.to(logits.dtype) / union.clamp(min=1)


def _overlap_and_area(probabilities: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    overlap = (probabilities * targets).flatten(1).sum(1)
    return overlap, probabilities.flatten(1).sum(1) + targets.flatten(1).sum(1)


def _positive(denominator: Tensor) -> Tensor:
    # Only smooth=0 on two empty masks gets here; those entries are weighted 0, and 0 x NaN is NaN.
    return denominator.clamp(min=torch.finfo(denominator.dtype).tiny)
