"""Settling overlaps against a plain rule over the stacked logits."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from sam2vt.core.evaluation.video import settle_overlaps


def plain(logits, size):
    full = F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0].numpy()
    owner = np.full(size, -1)
    for y in range(size[0]):
        for x in range(size[1]):
            values = full[:, y, x]
            winners = np.flatnonzero(values == values.max())
            if values.max() > 0:
                owner[y, x] = winners[0]
    return owner


def test_equals_the_plain_rule():
    g = torch.Generator().manual_seed(0)
    for k, small, size in [(1, (8, 8), (11, 7)), (4, (8, 8), (8, 8)), (3, (16, 16), (9, 21))]:
        logits = torch.randn(k, *small, generator=g).round(decimals=1)
        assert np.array_equal(settle_overlaps(logits, size), plain(logits, size))


def test_ties_belong_to_the_first_as_in_sam_2():
    logits = torch.tensor([[[2.0, 2.0, -1.0, 0.0]], [[2.0, 2.0, -1.0, 0.0]], [[1.0, 3.0, -1.0, 0.0]]])
    assert settle_overlaps(logits, (1, 4)).tolist() == [[0, 2, -1, -1]]
    assert settle_overlaps(logits.flip(0), (1, 4)).tolist() == [[1, 0, -1, -1]]
    from sam2.modeling.sam2_base import SAM2Base

    kept = SAM2Base._apply_non_overlapping_constraints(None, logits[:, None]) > 0
    owner = torch.from_numpy(settle_overlaps(logits, (1, 4)))
    assert [(owner == k).tolist() for k in range(3)] == kept[:, 0].tolist()


def test_no_objects_and_low_precision():
    assert (settle_overlaps(torch.zeros(0, 4, 4), (3, 5)) == -1).all()
    half = torch.full((1, 4, 4), 0.5, dtype=torch.bfloat16)
    assert (settle_overlaps(half, (8, 8)) == 0).all()
