"""Memory for time: parts of the network whose activations are computed again in backward, not kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch.utils.checkpoint import checkpoint

Result = TypeVar("Result")


def again(wanted: bool, function: Callable[..., Result], *inputs: object, draws: bool = True) -> Result:
    """`function(*inputs)`; where wanted and a gradient may follow, only its inputs are kept for backward.

    Draws such as dropout's are repeated exactly, unless there are none.
    """
    if wanted and torch.is_grad_enabled():
        return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=draws)
    return function(*inputs)
