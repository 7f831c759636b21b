"""Collect the memory that objects read on a frame, and run the memory attention over it.

The first layer's self-attention only sees the frame, so objects on one frame share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vt.core.model.tracking.memory import Selection


class Remembered(NamedTuple):
    """The memory of K objects: S tokens of M channels, object pointers last."""

    tokens: Tensor  # [K, S, M]
    positions: Tensor  # [1, S, M]
    num_pointer_tokens: int
    mask: Tensor | None = None  # bool [1, S], False for padding; None: there is none


class Part(NamedTuple):
    """The frames or the object pointers in the memory of K objects."""

    tokens: Tensor  # [S, K, M]
    positions: Tensor  # [S, 1, M]
    most: int  # tokens on the frame with the longest memory


def read_memory(
    network: Any, selection: Selection, frame: int, num_frames: int, pad: bool = False
) -> Remembered:
    """Return the memory that the objects of a cohort read on `frame` of a clip of `num_frames`.

    With `pad` it has one shape on all frames, as compiled code and CUDA graphs need.
    """
    parts = [_frames(network, selection, frame, num_frames)]
    if network.use_obj_ptrs_in_encoder:
        parts += _pointers(network, selection, frame, num_frames)
    mask = None
    if pad:
        mask = torch.cat([_is_real(part) for part in parts]).unsqueeze(0)
        parts = [_padded(part) for part in parts]
    return _remembered(parts, mask)


def attend_frames(network: Any, frames: Tensor, positions: Tensor) -> Tensor:
    """Run the first layer's self-attention on frames [L, I, C] with position codes [L, 1, C]: [L, I, C]."""
    attended = network.memory_attention.attend_frames(frames.transpose(0, 1), positions.transpose(0, 1))
    return attended.transpose(0, 1)


def attend_memory(network: Any, attended: Tensor, positions: Tensor, memory: Remembered) -> Tensor:
    """Run the rest of the memory attention on `attend_frames`' result per object: [L, K, C]."""
    seen = network.memory_attention(attended.transpose(0, 1), positions.transpose(0, 1), memory)
    return seen.transpose(0, 1)


def _frames(network: Any, selection: Selection, frame: int, num_frames: int) -> Part:
    rows, entries = zip(*selection.spatial(network, frame))
    positions = [entry.positions + network.maskmem_tpos_enc[row] for row, entry in zip(rows, entries)]
    most = selection.most_frames(network, num_frames) * len(positions[0])
    return Part(torch.cat([entry.tokens for entry in entries]), torch.cat(positions), most)


def _pointers(network: Any, selection: Selection, frame: int, num_frames: int) -> list[Part]:
    """Return one part, or none if no pointer is known."""
    found = list(selection.pointers(network, frame, num_frames))
    if not found:
        return []
    frames_back, pointers = zip(*found)
    tokens = _pointer_tokens(network, pointers)
    most = selection.most_pointers(network, num_frames) * (len(tokens) // len(pointers))
    return [Part(tokens, _pointer_positions(network, frames_back, num_frames), most)]


def _pointer_tokens(network: Any, pointers: Sequence[Tensor]) -> Tensor:
    """Cut P pointers [K, C] into C / M tokens each: [P * C/M, K, M]."""
    cut = torch.stack(list(pointers)).unflatten(2, (-1, network.mem_dim))
    return cut.transpose(1, 2).flatten(0, 1)


def _pointer_positions(network: Any, frames_back: Sequence[int], num_frames: int) -> Tensor:
    """Return codes of how many frames back P pointers are, for each of their tokens: [P * C/M, 1, M]."""
    from sam2.modeling.sam2_utils import get_1d_sine_pe

    tokens_each, device = network.hidden_dim // network.mem_dim, network.maskmem_tpos_enc.device
    if not network.add_tpos_enc_to_obj_ptrs:
        return torch.zeros(len(frames_back) * tokens_each, 1, network.mem_dim, device=device)
    furthest = min(num_frames, network.max_obj_ptrs_in_encoder) - 1
    width = network.hidden_dim if network.proj_tpos_enc_in_obj_ptrs else network.mem_dim
    back = torch.tensor(frames_back, device=device) / furthest
    codes = network.obj_ptr_tpos_proj(get_1d_sine_pe(back, dim=width))
    return codes.repeat_interleave(tokens_each, dim=0).unsqueeze(1)


def _is_real(part: Part) -> Tensor:
    """Return bool [most], False where `_padded` adds."""
    real = torch.ones(part.most, dtype=torch.bool, device=part.tokens.device)
    real[len(part.tokens) :] = False
    return real


def _padded(part: Part) -> Part:
    missing = (0, 0, 0, 0, 0, part.most - len(part.tokens))
    return Part(F.pad(part.tokens, missing), F.pad(part.positions, missing), part.most)


def _remembered(parts: list[Part], mask: Tensor | None = None) -> Remembered:
    tokens, positions = (torch.cat(pieces).transpose(0, 1) for pieces in list(zip(*parts))[:2])
    # One copy here: each layer's projections would make and store one of their own.
    return Remembered(tokens.contiguous(), positions, len(parts[1].tokens) if len(parts) > 1 else 0, mask)
