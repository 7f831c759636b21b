"""SAM 2's attention with rotary codes, with a cheaper dropout and without writing into its keys.

Its own writes rotated keys over the others, whose gradient then is copied whole.
"""

from __future__ import annotations

import math

import torch
from sam2.modeling.position_encoding import apply_rotary_enc
from sam2.modeling.sam.transformer import RoPEAttention
from torch import Tensor

from sam2vt.core.model.dropout import attend


class RotaryAttention(RoPEAttention):
    """The same parameters and, but for dropout's draws, the same output."""

    freqs_cis: Tensor  # complex [L, C/2]

    def forward(self, q: Tensor, k: Tensor, v: Tensor, num_k_exclude_rope: int = 0) -> Tensor:
        """Queries [K, L, C] over keys and values [K, S, M]: [K, L, C].

        The last `num_k_exclude_rope` keys are not rotated; the others are as many times L, in frames.
        """
        query, key, value = (
            self._separate_heads(project(x), self.num_heads)
            for project, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        query, key = self._rotate(query, key, num_k_exclude_rope)
        seen = attend(query, key, value, self.dropout_p if self.training else 0.0)
        return self.out_proj(self._recombine_heads(seen))

    def _rotate(self, query: Tensor, key: Tensor, num_excluded: int) -> tuple[Tensor, Tensor]:
        num_tokens, num_rotated = query.shape[-2], key.shape[-2] - num_excluded
        if self.freqs_cis.shape[0] != num_tokens:
            side = math.isqrt(num_tokens)
            self.freqs_cis = self.compute_cis(end_x=side, end_y=side)
        self.freqs_cis = self.freqs_cis.to(query.device)
        query, rotated = apply_rotary_enc(
            query, key[:, :, :num_rotated], self.freqs_cis, repeat_freqs_k=self.rope_k_repeat
        )
        return query, torch.cat([rotated, key[:, :, num_rotated:]], 2) if num_excluded else rotated
