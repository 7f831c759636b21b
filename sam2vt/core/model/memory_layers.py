"""The layers of SAM 2's memory attention over packed objects: objects on one frame share its first step.

Position codes are the same for all objects and are never repeated for them. Parameters and results are
SAM 2's; with dropout the objects of a frame share the first self-attention's draw.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from torch import Tensor

from sam2vt.core.model.dropout import dropout, relu_dropout
from sam2vt.core.model.memory_attention import Remembered
from sam2vt.core.model.rotary_attention import RotaryAttention


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
