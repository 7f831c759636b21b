"""Windows of the image encoder in which one place stands for all padding."""

from __future__ import annotations

import torch
from sam2.modeling.backbones.hieradet import MultiScaleBlock

from sam2vt.core.model.speedups.windows import SharedPaddingBlock


def test_attention_sees_the_padding_of_a_window_once(monkeypatch) -> None:
    pairs = []
    real = torch.nn.functional.scaled_dot_product_attention

    def counting(query, key, value, **options):
        pairs.append(len(query) * query.shape[2] * key.shape[2])
        return real(query, key, value, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counting)
    block = MultiScaleBlock(16, 16, 2, window_size=14)
    block.__class__ = SharedPaddingBlock
    with torch.no_grad():
        block(torch.randn(1, 16, 16, 16))
    assert sum(pairs) == 196 * 196 + 2 * 28 * 29 + 4 * 5  # one for all that fill each smaller window
