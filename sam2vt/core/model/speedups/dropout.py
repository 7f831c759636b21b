"""Compute dropout cheaply on a CPU and store little for the backward pass; attention with it.

PyTorch draws dropout on a CPU number by number. Here one draw of 64 bits decides four values, by vector
operations that take an eighth of the time. On other devices PyTorch draws.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from sam2vt.core.model.tracking.memory_layers import MemoryLayer, RotaryAttention

_DRAWS = 1 << 16  # on a CPU a probability is rounded to a multiple of one over this


class FastDropoutLayer(MemoryLayer):
    """A layer of the memory attention with this dropout."""

    def drop(self, module: Any, x: Tensor) -> Tensor:
        """Return dropout of x with the module's probability."""
        return dropout(x, module.p) if module.training else x

    def relu_drop(self, x: Tensor) -> Tensor:
        """Return dropout of relu(x)."""
        return relu_dropout(x, self.dropout.p if self.training else 0.0)


class FastDropoutAttention(RotaryAttention):
    """Rotary attention with this dropout of its weights."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from queries [K, heads, L, C] to S keys; False in `mask` [L or 1, S] hides a key."""
        return attend(query, key, value, self.dropout_p if self.training else 0.0, mask)


def dropout(x: Tensor, probability: float) -> Tensor:
    """Set each value of x to 0 with this probability, and scale the others so that the mean stays."""
    if _torch_draws(x, probability):
        return F.dropout(x, probability)
    return x * _scales(x, probability)


def relu_dropout(x: Tensor, probability: float) -> Tensor:
    """Return dropout of relu(x); only the result is stored for the backward pass."""
    if torch.compiler.is_compiling():  # the compiler decides itself what is stored
        return F.dropout(x.relu(), probability)
    return _ReluDropout.apply(x, probability)


def attend(
    query: Tensor, key: Tensor, value: Tensor, probability: float, mask: Tensor | None = None
) -> Tensor:
    """Attend from queries [K, heads, L, C] to S keys and values, with dropout of the weights.

    A key is hidden where `mask`, bool [L or 1, S], is False.
    """
    if _torch_draws(query, probability):
        return F.scaled_dot_product_attention(query, key, value, mask, probability)
    scores = query / math.sqrt(query.shape[-1]) @ key.transpose(-2, -1)
    weights = (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(-1)
    return relu_dropout(weights, probability) @ value  # no weight is negative, so relu changes none


class _ReluDropout(torch.autograd.Function):
    """Where the result is positive the value was kept: no mask needs to be stored."""

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
    # Compiled code already draws by vector operations.
    return x.device.type != "cpu" or not probability or torch.compiler.is_compiling()


def _scales(x: Tensor, probability: float) -> Tensor:
    """Draw for each value of x 0, or the factor that keeps the mean."""
    dropped = _rounded(probability) * _DRAWS
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    values = draws.view(torch.int16)[: x.numel()].view(x.shape).float()
    return values.ge_(dropped - _DRAWS // 2).mul_(_DRAWS / (_DRAWS - dropped)).to(x.dtype)


def _rounded(probability: float) -> float:
    return min(round(probability * _DRAWS), _DRAWS - 1) / _DRAWS
