"""Read what a layer does to its input, apart from its use in the network: the one place that does.

An adapter may wrap a layer; `weight` and `bias` are then those of the frozen one inside. Calling the layer is
right for every adapter, so its weights are never read by their names.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def bias_of(layer: nn.Module, x: Tensor) -> Tensor:
    """Return the output [O] of a linear layer for zeros, as for x [..., I] and with its gradient."""
    return layer(x.new_zeros(x.shape[-1]))


@torch.no_grad()
def weight_and_bias(layer: nn.Module, channels: int) -> tuple[Tensor, Tensor]:
    """Return weight [O, I] and bias [O] in float64 of a convolution of single pixels with I `channels`."""
    exact = copy.deepcopy(layer).double().eval()
    device = next(exact.parameters()).device
    pixels = torch.eye(channels, dtype=torch.float64, device=device)[..., None, None]
    bias = exact(torch.zeros_like(pixels[:1])).flatten()
    return (exact(pixels).flatten(1) - bias).T, bias
