"""Run SAM 2's memory attention over packed objects; objects on one frame share its first step.

Position codes are the same for all objects and are never repeated for them. Parameters and results are
SAM 2's. With dropout the objects of a frame share the draw of the first self-attention.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.sam.transformer import RoPEAttention
from torch import Tensor

from sam2vt.core.model.tracking.memory_attention import Remembered


class MemoryLayer(MemoryAttentionLayer):
    """A layer whose self-attention is a separate step."""

    def forward(self, x: Tensor, codes: Tensor, memory: Remembered) -> Tensor:  # type: ignore[override]
        """Map tokens [K, L, C] after their self-attention, with codes [1, L, C], to the layer's result."""
        x = x + self.drop(self.dropout2, self._attend_memory(self.norm2(x), codes, memory))
        return x + self.drop(self.dropout3, self._feed_forward(self.norm3(x)))

    def attend_self(self, x: Tensor, codes: Tensor) -> Tensor:
        """Return the self-attention of [I, L, C]."""
        normed = self.norm1(x)
        placed = normed + codes if self.pos_enc_at_attn else normed
        return x + self.drop(self.dropout1, self.self_attn(placed, placed, v=normed))

    def drop(self, module: Any, x: Tensor) -> Tensor:
        """Return the dropout `module` of x."""
        return module(x)

    def relu_drop(self, x: Tensor) -> Tensor:
        """Return dropout of relu(x)."""
        return self.dropout(F.relu(x))

    def _attend_memory(self, normed: Tensor, codes: Tensor, memory: Remembered) -> Tensor:
        further: dict[str, Any] = {}
        if isinstance(self.cross_attn_image, RotaryAttention):
            further = {"num_k_exclude_rope": memory.num_pointer_tokens, "mask": memory.mask}
        placed = memory.tokens + memory.positions if self.pos_enc_at_cross_attn_keys else memory.tokens
        query = normed + codes if self.pos_enc_at_cross_attn_queries else normed
        return self.cross_attn_image(q=query, k=placed, v=memory.tokens, **further)

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.linear1(x)
        if self.activation is F.relu:
            return self.linear2(self.relu_drop(hidden))
        return self.linear2(self.drop(self.dropout, self.activation(hidden)))


class MemoryLayers(MemoryAttention):
    """All layers but the first one's self-attention, which `attend_frames` runs once per frame."""

    def forward(self, x: Tensor, codes: Tensor, memory: Remembered) -> Tensor:  # type: ignore[override]
        """Map `attend_frames`' result [K, L, C], with codes [1, L, C], to features with memory [K, L, C]."""
        for place, layer in enumerate(self.layers):
            x = layer(layer.attend_self(x, codes) if place else x, codes, memory)
        return self.norm(x)

    def attend_frames(self, frames: Tensor, codes: Tensor) -> Tensor:
        """Return the first self-attention of frames [I, L, C], with codes [1, L, C]."""
        if self.pos_enc_at_input:
            frames = frames + 0.1 * codes
        return self.layers[0].attend_self(frames, codes)


class RotaryAttention(RoPEAttention):
    """SAM 2's rotary attention, which does not write into its keys and can hide some of them."""

    freqs_cis: Tensor  # complex [L, C/2]

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, num_k_exclude_rope: int = 0, mask: Tensor | None = None
    ) -> Tensor:
        """Attend from queries [K, L, C] to keys and values [K, S, M]: [K, L, C].

        The last `num_k_exclude_rope` keys are not rotated; the others are frames of L keys each.
        A key is hidden where `mask`, bool [1, S], is False.
        """
        query, key, value = (
            self._separate_heads(project(x), self.num_heads)
            for project, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        query, key = self._rotate(query, key, num_k_exclude_rope)
        return self.out_proj(self._recombine_heads(self.attend(query, key, value, mask)))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from queries [K, heads, L, C] to S keys; False in `mask` [L or 1, S] hides a key."""
        dropped = self.dropout_p if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, mask, dropped)

    def _rotate(self, query: Tensor, key: Tensor, num_excluded: int) -> tuple[Tensor, Tensor]:
        num_tokens, num_rotated = query.shape[-2], key.shape[-2] - num_excluded
        if self.freqs_cis.shape[0] != num_tokens:
            side = math.isqrt(num_tokens)
            self.freqs_cis = self.compute_cis(end_x=side, end_y=side)
        codes = self.freqs_cis = self.freqs_cis.to(query.device)
        rotated, others = key.split([num_rotated, num_excluded], 2)
        rotated = _rotated(rotated.unflatten(2, (-1, num_tokens)), codes).flatten(2, 3)
        return _rotated(query, codes), torch.cat([rotated, others], 2) if num_excluded else rotated


def _rotated(x: Tensor, codes: Tensor) -> Tensor:
    """Rotate pairs of the channels of x [..., L, C] by complex codes [L, C/2]."""
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # the compiler generates no code for complex numbers
        (real, imaginary), (cosine, sine) = pairs.unbind(-1), torch.view_as_real(codes).unbind(-1)
        turned = torch.stack([real * cosine - imaginary * sine, real * sine + imaginary * cosine], -1)
    else:
        turned = torch.view_as_real(torch.view_as_complex(pairs) * codes)
    return turned.flatten(-2).type_as(x)
