"""SAM 2's memory attention over packed objects: what depends on the frame alone is done once a frame.

The first layer's self-attention sees only the frame, so that objects on one frame share it; position codes
are the same for all objects and are never repeated for them. The modules and their weights are SAM 2's.
With dropout the objects of a frame share the first layer's draw.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vt.core.model.dropout import dropout, relu_dropout
from sam2vt.core.model.memory import MemoryBank


class Remembered(NamedTuple):
    """What K objects attend to: S tokens of M channels, object pointers last."""

    tokens: Tensor  # [K, S, M]
    positions: Tensor  # [1, S, M]
    num_pointer_tokens: int


def read_memory(network: Any, bank: MemoryBank, frame: int, num_frames: int) -> Remembered:
    """What the objects of a cohort remember when they come to `frame` of a clip of `num_frames`."""
    selection = bank.select(frame, network.max_cond_frames_in_attn)
    tokens, positions = [], []
    for row, entry in selection.spatial(network, frame):
        tokens.append(entry.tokens)
        positions.append(entry.positions + network.maskmem_tpos_enc[row])
    num_pointer_tokens = 0
    if network.use_obj_ptrs_in_encoder:
        pointers = list(selection.pointers(network, frame, num_frames))
        if pointers:
            tokens.append(_pointer_tokens(network, [pointer for _, pointer in pointers]))
            positions.append(_pointer_positions(network, [back for back, _ in pointers], num_frames))
            num_pointer_tokens = len(tokens[-1])
    return _remembered(tokens, positions, num_pointer_tokens)


def empty_memory(network: Any, num_objects: int) -> Remembered:
    """The token that stands for nothing, for networks that attend to it on conditioning frames."""
    token = network.no_mem_embed.expand(1, num_objects, network.mem_dim)
    return _remembered([token], [network.no_mem_pos_enc.expand(1, 1, network.mem_dim)], 0)


def attend_frames(network: Any, frames: Tensor, positions: Tensor) -> Tensor:
    """The first layer's self-attention on frames [L, I, C] with position codes [L, 1, C]; [L, I, C]."""
    attention = network.memory_attention
    if attention.pos_enc_at_input:
        frames = frames + 0.1 * positions
    attended = _self_attention(attention.layers[0], frames.transpose(0, 1), positions.transpose(0, 1))
    return attended.transpose(0, 1)


def attend_memory(network: Any, attended: Tensor, positions: Tensor, memory: Remembered) -> Tensor:
    """The rest of the memory attention, from `attend_frames`' result [L, K, C] an object; [L, K, C]."""
    x, codes = attended.transpose(0, 1), positions.transpose(0, 1)
    keys = memory.tokens + memory.positions
    attention = network.memory_attention
    for place, layer in enumerate(attention.layers):
        if place:
            x = _self_attention(layer, x, codes)
        x = _cross_attention(layer, x, codes, keys, memory)
        x = x + _drop(layer.dropout3, _feed_forward(layer, layer.norm3(x)))
    return attention.norm(x).transpose(0, 1)


def _self_attention(layer: Any, x: Tensor, codes: Tensor) -> Tensor:
    normed = layer.norm1(x)
    placed = normed + codes if layer.pos_enc_at_attn else normed
    return x + _drop(layer.dropout1, layer.self_attn(placed, placed, v=normed))


def _cross_attention(layer: Any, x: Tensor, codes: Tensor, keys: Tensor, memory: Remembered) -> Tensor:
    from sam2.modeling.sam.transformer import RoPEAttention

    rotary = isinstance(layer.cross_attn_image, RoPEAttention)
    further = {"num_k_exclude_rope": memory.num_pointer_tokens} if rotary else {}
    normed = layer.norm2(x)
    seen = layer.cross_attn_image(
        q=normed + codes if layer.pos_enc_at_cross_attn_queries else normed,
        k=keys if layer.pos_enc_at_cross_attn_keys else memory.tokens,
        v=memory.tokens,
        **further,
    )
    return x + _drop(layer.dropout2, seen)


def _feed_forward(layer: Any, x: Tensor) -> Tensor:
    hidden = layer.linear1(x)
    if layer.activation is F.relu:
        return layer.linear2(relu_dropout(hidden, layer.dropout.p if layer.training else 0.0))
    return layer.linear2(_drop(layer.dropout, layer.activation(hidden)))


def _drop(module: Any, x: Tensor) -> Tensor:
    return dropout(x, module.p) if module.training else x


def _pointer_tokens(network: Any, pointers: list[Tensor]) -> Tensor:
    """P pointers [K, C], each cut into C / M tokens: [P * C/M, K, M]."""
    cut = torch.stack(pointers).unflatten(2, (-1, network.mem_dim))
    return cut.transpose(1, 2).flatten(0, 1)


def _pointer_positions(network: Any, frames_back: list[int], num_frames: int) -> Tensor:
    """Codes of how far back P pointers lie, for each of their tokens: [P * C/M, 1, M]."""
    from sam2.modeling.sam2_utils import get_1d_sine_pe

    tokens_each, device = network.hidden_dim // network.mem_dim, network.maskmem_tpos_enc.device
    if not network.add_tpos_enc_to_obj_ptrs:
        return torch.zeros(len(frames_back) * tokens_each, 1, network.mem_dim, device=device)
    furthest = min(num_frames, network.max_obj_ptrs_in_encoder) - 1
    width = network.hidden_dim if network.proj_tpos_enc_in_obj_ptrs else network.mem_dim
    back = torch.tensor(frames_back, device=device) / furthest
    codes = network.obj_ptr_tpos_proj(get_1d_sine_pe(back, dim=width))
    return codes.repeat_interleave(tokens_each, dim=0).unsqueeze(1)


def _remembered(tokens: list[Tensor], positions: list[Tensor], num_pointer_tokens: int) -> Remembered:
    return Remembered(
        torch.cat(tokens).transpose(0, 1), torch.cat(positions).transpose(0, 1), num_pointer_tokens
    )
