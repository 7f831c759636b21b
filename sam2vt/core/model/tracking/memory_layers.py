"""The layers of SAM 2's memory attention over packed objects: objects on one frame share its first step.

Position codes are the same for all objects and are never repeated for them. Parameters and results are
SAM 2's; with dropout the objects of a frame share the first self-attention's draw.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.sam.transformer import RoPEAttention
from torch import Tensor

from sam2vt.core.model.speedups.dropout import attend, dropout, relu_dropout
from sam2vt.core.model.tracking.memory_attention import Remembered


class MemoryLayer(MemoryAttentionLayer):
    """A layer whose self-attention can be done for itself."""

    def forward(self, x: Tensor, codes: Tensor, memory: Remembered) -> Tensor:  # type: ignore[override]
        """Tokens [K, L, C] after their self-attention, with codes [1, L, C], to the layer's result."""
        x = x + _drop(self.dropout2, self._look_back(self.norm2(x), codes, memory))
        return x + _drop(self.dropout3, self._feed_forward(self.norm3(x)))

    def attend_self(self, x: Tensor, codes: Tensor) -> Tensor:
        """The self-attention of [I, L, C]."""
        normed = self.norm1(x)
        placed = normed + codes if self.pos_enc_at_attn else normed
        return x + _drop(self.dropout1, self.self_attn(placed, placed, v=normed))

    def _look_back(self, normed: Tensor, codes: Tensor, memory: Remembered) -> Tensor:
        further: dict[str, Any] = {}
        if isinstance(self.cross_attn_image, RotaryAttention):
            further = {"num_k_exclude_rope": memory.num_pointer_tokens, "mask": memory.mask}
        placed = memory.tokens + memory.positions if self.pos_enc_at_cross_attn_keys else memory.tokens
        query = normed + codes if self.pos_enc_at_cross_attn_queries else normed
        return self.cross_attn_image(q=query, k=placed, v=memory.tokens, **further)

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.linear1(x)
        if self.activation is F.relu:
            return self.linear2(relu_dropout(hidden, self.dropout.p if self.training else 0.0))
        return self.linear2(_drop(self.dropout, self.activation(hidden)))


class MemoryLayers(MemoryAttention):
    """All layers, but for the first one's self-attention, which `attend_frames` does once a frame."""

    def forward(self, x: Tensor, codes: Tensor, memory: Remembered) -> Tensor:  # type: ignore[override]
        """What `attend_frames` made, [K, L, C], with codes [1, L, C], to what remembers: [K, L, C]."""
        for place, layer in enumerate(self.layers):
            x = layer(layer.attend_self(x, codes) if place else x, codes, memory)
        return self.norm(x)

    def attend_frames(self, frames: Tensor, codes: Tensor) -> Tensor:
        """The first self-attention of frames [I, L, C], with codes [1, L, C]."""
        if self.pos_enc_at_input:
            frames = frames + 0.1 * codes
        return self.layers[0].attend_self(frames, codes)


def _drop(module: Any, x: Tensor) -> Tensor:
    return dropout(x, module.p) if module.training else x


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
