"""Choose the places where masks are compared: all pixels of the target, the masks' own, or drawn points.

A `Sampler` takes masks [K,M,h,w] and their targets [K,H,W]. It returns both at the places for the mask terms,
and both at the places for the true IoU.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vt.core.training.loss_terms.mask_sums import is_object, pool

# PointRend's figures: of 3 times as many candidates the least certain ones become 75% of the points.
_CANDIDATES, _UNCERTAIN = 3, 0.75


class Places(NamedTuple):
    """Masks [K,M,h,w] and targets [K,H,W]; masks of another size are resized to the targets'."""

    masks: Tensor
    targets: Tensor


Sampler = Callable[[Tensor, Tensor], tuple[Places, Places]]


def sampler(resolution: str, num_points: int | None) -> Sampler:
    """Return the sampler for the settings of the loss; `num_points=None` means every pixel."""
    if num_points is not None:
        return partial(at_points, num_points=num_points)
    return at_masks_size if resolution == "low" else at_targets_size


def at_targets_size(masks: Tensor, targets: Tensor) -> tuple[Places, Places]:
    """Return every pixel of the target, for both."""
    places = Places(masks, targets)
    return places, places


def at_masks_size(masks: Tensor, targets: Tensor) -> tuple[Places, Places]:
    """Return the masks' own pixels, for both; targets are averaged by area."""
    pooled = pool(targets, masks.shape[-2:], masks.dtype)
    return Places(masks, pooled), Places(masks, is_object(pooled))


def terms_at_masks_size(masks: Tensor, targets: Tensor) -> tuple[Places, Places]:
    """Return the masks' own pixels for the terms, every pixel of the target for the true IoU."""
    return Places(masks, pool(targets, masks.shape[-2:], masks.dtype)), Places(masks, targets)


def at_points(masks: Tensor, targets: Tensor, num_points: int) -> tuple[Places, Places]:
    """Return points drawn per entry for the terms, the masks' own pixels for the true IoU.

    The M masks of an entry share their points, so that their costs can be compared.
    """
    points = draw_points(masks.detach(), num_points)
    return Places(_sample(masks, points), _nearest(targets, points)), at_masks_size(masks, targets)[1]


def draw_points(masks: Tensor, number: int) -> Tensor:
    """Draw points [K,number,2], x and y from 0 to 1, most of them where a mask is near its edge."""
    num_uncertain = round(_UNCERTAIN * number)
    candidates = torch.rand(len(masks), _CANDIDATES * number, 2, device=masks.device)
    certainty = _sample(masks, candidates).abs().amin(1)[:, 0]
    chosen = certainty.topk(num_uncertain, dim=1, largest=False).indices
    uncertain = candidates.gather(1, chosen[..., None].expand(-1, -1, 2))
    anywhere = torch.rand(len(masks), number - num_uncertain, 2, device=masks.device)
    return torch.cat([uncertain, anywhere], 1)


def _sample(masks: Tensor, points: Tensor) -> Tensor:
    """Masks [K,M,h,w] at points [K,P,2], bilinear: [K,M,1,P]."""
    grid = (2 * points - 1)[:, None].to(masks.dtype)
    return F.grid_sample(masks, grid, padding_mode="border", align_corners=False)


def _nearest(targets: Tensor, points: Tensor) -> Tensor:
    """Targets [K,H,W] at the pixels of points [K,P,2], not interpolated, so that bool stays bool: [K,1,P]."""
    height, width = targets.shape[-2:]
    columns = (points[..., 0] * width).long().clamp_(max=width - 1)
    rows = (points[..., 1] * height).long().clamp_(max=height - 1)
    return targets.flatten(1).gather(1, rows * width + columns)[:, None]
