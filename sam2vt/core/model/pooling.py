"""The image encoder's pooling, which keeps a byte a result for backward.

PyTorch's keeps its input and an index of eight bytes a result.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))


def max_pool(maps: Tensor) -> Tensor:
    """The largest of every 2 x 2 places of maps [I, H, W, C], H and W even: [I, H/2, W/2, C]."""
    return _MaxPool.apply(maps)


class _MaxPool(torch.autograd.Function):
    """Of equal values the first, as PyTorch has it."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        largest = maps[:, ::2, ::2]
        chosen = torch.zeros_like(largest, dtype=torch.uint8) if ctx.needs_input_grad[0] else None
        for number, (row, column) in enumerate(_PLACES[1:], 1):
            other = maps[:, row::2, column::2]
            if chosen is not None:
                chosen.masked_fill_(other > largest, number)
            largest = torch.maximum(largest, other)
        ctx.save_for_backward(chosen)
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (chosen,) = ctx.saved_tensors
        images, height, width, channels = gradient.shape
        result = gradient.new_empty(images, 2 * height, 2 * width, channels)
        for number, (row, column) in enumerate(_PLACES):
            result[:, row::2, column::2] = torch.where(chosen == number, gradient, 0)
        return result
