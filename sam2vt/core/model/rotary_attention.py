"""SAM 2's attention with rotary codes, with a cheaper dropout and without writing into its keys.

Its own writes rotated keys over the others, whose gradient then is copied whole.
"""

from __future__ import annotations

import math

import torch
from sam2.modeling.sam.transformer import RoPEAttention
from torch import Tensor

from sam2vt.core.model.dropout import attend


class RotaryAttention(RoPEAttention):
    """The same parameters and, but for dropout's draws, the same output."""

    freqs_cis: Tensor  # complex [L, C/2]

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, num_k_exclude_rope: int = 0, mask: Tensor | None = None
    ) -> Tensor:
        """Queries [K, L, C] over keys and values [K, S, M]: [K, L, C].

        The last `num_k_exclude_rope` keys are not rotated; the others are as many times L, in frames.
        Keys where `mask`, bool [1, S], is false are not seen.
        """
        query, key, value = (
            self._separate_heads(project(x), self.num_heads)
            for project, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        query, key = self._rotate(query, key, num_k_exclude_rope)
        seen = attend(query, key, value, self.dropout_p if self.training else 0.0, mask)
        return self.out_proj(self._recombine_heads(seen))

    def _rotate(self, query: Tensor, key: Tensor, num_excluded: int) -> tuple[Tensor, Tensor]:
        num_tokens, num_rotated = query.shape[-2], key.shape[-2] - num_excluded
        if self.freqs_cis.shape[0] != num_tokens:
            side = math.isqrt(num_tokens)
            self.freqs_cis = self.compute_cis(end_x=side, end_y=side)
        codes = self.freqs_cis = self.freqs_cis.to(query.device)
        rotated, others = key.split([num_rotated, num_excluded], 2)
        rotated = _turned(rotated.unflatten(2, (-1, num_tokens)), codes).flatten(2, 3)
        return _turned(query, codes), torch.cat([rotated, others], 2) if num_excluded else rotated


def _turned(x: Tensor, codes: Tensor) -> Tensor:
    """Pairs of the channels of x [..., L, C] turned by complex codes [L, C/2]."""
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # no code is generated for complex numbers
        (real, imaginary), (cosine, sine) = pairs.unbind(-1), torch.view_as_real(codes).unbind(-1)
        turned = torch.stack([real * cosine - imaginary * sine, real * sine + imaginary * cosine], -1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * codes)
    return turned.flatten(-2).type_as(x)
