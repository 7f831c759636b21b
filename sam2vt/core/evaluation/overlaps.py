"""From logits of several objects to masks that do not overlap."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def settle_overlaps(logits: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Who owns each pixel, int16 [height,width]: the index k of an object, or -1 for none.

    `logits` [K,h,w] are brought to `size` (height, width), bilinearly. A pixel belongs to the object with
    the largest logit above 0; where two share the largest it belongs to none. Goes object by object, so
    that memory does not grow with their number.
    """
    best = torch.zeros(size, device=logits.device)
    owner = torch.full(size, -1, dtype=torch.int16, device=logits.device)
    for k, small in enumerate(logits):
        full = small.float()
        if tuple(small.shape) != tuple(size):
            full = F.interpolate(full[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        owner[(full == best) & (full > 0)] = -1
        better = full > best
        owner[better] = k
        best[better] = full[better]
    return owner.cpu().numpy()
