"""Memory for time: parts of the network whose activations are computed again in backward, not kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch.utils.checkpoint import checkpoint

Result = TypeVar("Result")


def again(wanted: bool, function: Callable[..., Result], *inputs: object) -> Result:
    """`function(*inputs)`; where wanted and a gradient may follow, only its inputs are kept for backward.

    Draws such as dropout's are repeated exactly.
    """
    if wanted and torch.is_grad_enabled():
        return checkpoint(function, *inputs, use_reentrant=False)
    return function(*inputs)
