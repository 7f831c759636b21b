"""Post-process masks in tracking, as the predictor of `build_sam2_video_predictor` does.

A single mask that is not stable is replaced by the best of three. The memory of a prompted frame gets what
the user sees: the binary mask at a quarter of the size. Small holes are filled if SAM 2 has its CUDA
extension; without it, the predictor does not fill them either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

# The overrides of `apply_postprocessing=True`, by the part of the network that has them as attributes.
_OF_DECODER = {
    "dynamic_multimask_via_stability": True,
    "dynamic_multimask_stability_delta": 0.05,
    "dynamic_multimask_stability_thresh": 0.98,
}
_OF_NETWORK = {"binarize_mask_from_pts_for_mem_enc": True}
HOLE_AREA = 8  # pixels of a mask at a quarter of the size


@contextmanager
def as_stock(network: Any) -> Iterator[None]:
    """In this block, let a network in eval mode decode and remember as the stock predictor does."""
    parts = ((network, _OF_NETWORK), (network.sam_mask_decoder, _OF_DECODER))
    before = [(part, {name: getattr(part, name) for name in values}) for part, values in parts]
    _set(parts)
    try:
        yield
    finally:
        _set(before)


def _set(parts: Any) -> None:
    for part, values in parts:
        for name, value in values.items():
            setattr(part, name, value)


def fill_holes(masks: Tensor) -> Tensor:
    """Return mask logits [K, 1, h, w] with small holes filled, if SAM 2's kernel for it can run."""
    if not masks.is_cuda or find_spec("sam2._C") is None:
        return masks
    from sam2.utils.misc import fill_holes_in_mask_scores

    return fill_holes_in_mask_scores(masks, HOLE_AREA)


def as_stored(features: Tensor) -> Tensor:
    """Return memory features rounded as the predictor stores them."""
    return features.to(torch.bfloat16).to(features.dtype)
