"""Dropout that is cheap on a CPU, keeps little for backward, and attention with it.

A CPU draws PyTorch's dropout number by number. Here one draw of 64 bits decides four values, by vector
operations that take an eighth of the time. On other devices the draws are PyTorch's own.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_DRAWS = 1 << 16  # on a CPU a probability is rounded to one in so many


def dropout(x: Tensor, probability: float) -> Tensor:
    """Each value of x set to 0 with this probability, and the others scaled so that the mean stays."""
    if _torch_draws(x, probability):
        return F.dropout(x, probability)
    return x * _scales(x, probability)


def relu_dropout(x: Tensor, probability: float) -> Tensor:
    """Dropout of relu(x), for whose backward the result is enough."""
    if torch.compiler.is_compiling():  # which decides by itself what it keeps
        return F.dropout(x.relu(), probability)
    return _ReluDropout.apply(x, probability)


def attend(
    query: Tensor, key: Tensor, value: Tensor, probability: float, mask: Tensor | None = None
) -> Tensor:
    """Attention [K, heads, L, C] of queries over S keys and values, each weight dropped with a probability.

    Where `mask`, bool [L or 1, S], is false, a key is not seen.
    """
    if _torch_draws(query, probability):
        return F.scaled_dot_product_attention(query, key, value, mask, probability)
    scores = query / math.sqrt(query.shape[-1]) @ key.transpose(-2, -1)
    weights = (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(-1)
    return relu_dropout(weights, probability) @ value  # no weight is negative


class _ReluDropout(torch.autograd.Function):
    """A value that is positive in the end was kept, and its gradient is scaled as it was."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, probability: float) -> Tensor:
        result = dropout(x.relu(), probability)
        ctx.save_for_backward(result)
        ctx.scale = 1 / (1 - _rounded(probability) if x.device.type == "cpu" else 1 - probability)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        return result.sign().mul_(gradient).mul_(ctx.scale), None


def _torch_draws(x: Tensor, probability: float) -> bool:
    """Compiled code draws by vector operations itself."""
    return x.device.type != "cpu" or not probability or torch.compiler.is_compiling()


def _scales(x: Tensor, probability: float) -> Tensor:
    """0, or what keeps the mean, for each value of x."""
    dropped = _rounded(probability) * _DRAWS
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    values = draws.view(torch.int16)[: x.numel()].view(x.shape).float()
    return values.ge_(dropped - _DRAWS // 2).mul_(_DRAWS / (_DRAWS - dropped)).to(x.dtype)


def _rounded(probability: float) -> float:
    return min(round(probability * _DRAWS), _DRAWS - 1) / _DRAWS
