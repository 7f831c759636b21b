"""Attend to a memory with few channels, which is mixed first and projected afterwards.

Values are a projection of M channels to four times as many, and the weights of a query sum to one. So
projecting the mix equals mixing the projections, except for rounding, with three eighths fewer operations.
Fused attention cannot do this. On a GPU it is the faster one, and with a gradient it stores less.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sam2vt.core.model.speedups.dropout import FastDropoutAttention

_BYTES = 1 << 23  # of scores at a time: few operations, and memory that does not grow with the image


class NarrowMemoryAttention(FastDropoutAttention):
    """Rotary attention that mixes narrow memory before projecting it, if no gradient is needed."""

    devices: tuple[str, ...] = ("cpu",)  # on which this is faster than fused attention

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, num_k_exclude_rope: int = 0, mask: Tensor | None = None
    ) -> Tensor:
        """Attend from queries [K, L, C] to keys and values [K, S, M]: [K, L, C], as `RotaryAttention`."""
        is_narrow = self.num_heads == 1 and v.shape[-1] < self.internal_dim
        is_used = is_narrow and q.device.type in self.devices and not (self.training and self.dropout_p)
        if torch.is_grad_enabled() or not is_used:
            return super().forward(q, k, v, num_k_exclude_rope, mask)
        query, key = self._rotate(self.q_proj(q)[:, None], self.k_proj(k)[:, None], num_k_exclude_rope)
        # One after another: PyTorch multiplies batches of matrices more slowly than single ones.
        mixed = [_mix(*each, mask) for each in zip(query[:, 0], key[:, 0], v)]
        return self.out_proj(self.v_proj(torch.stack(mixed)))


def _mix(query: Tensor, key: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
    """Return memory [S, M] as queries [L, C] weigh it by S keys: [L, M]."""
    query, key = query / math.sqrt(query.shape[1]), key.T
    found = []
    for part in query.split(max(1, _BYTES // (4 * len(memory)))):
        scores = part @ key
        scores = scores if mask is None else scores.masked_fill(~mask, -math.inf)
        found.append(scores.softmax(-1) @ memory)
    return torch.cat(found)
