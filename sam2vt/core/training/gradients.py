"""The norm of a step's gradients, measured once, and their clipping by it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# From torch 2.6 on the norm and the clipping can be asked for apart.
_APART = hasattr(nn.utils, "get_total_norm") and hasattr(nn.utils, "clip_grads_with_norm_")


def updated_by(optimizer: Optimizer) -> list[nn.Parameter]:
    """Its parameters, found at once; a module would walk through all of its submodules."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Euclidean norm of all gradients, a scalar tensor; they stay as they are."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros((), device=parameters[0].device)
    if _APART:
        return nn.utils.get_total_norm(gradients)
    # An unlimited norm scales by exactly 1.
    return nn.utils.clip_grad_norm_(parameters, float("inf"))


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float, norm: Tensor) -> None:
    """Scale the gradients so that their Euclidean norm, which is `norm`, is at most `limit`."""
    if _APART:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    else:
        nn.utils.clip_grad_norm_(parameters, limit)
