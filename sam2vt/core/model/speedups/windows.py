"""Compute windows of the image encoder with one place for all padding: less attention on a CPU.

The padded places of a window are all the same to attention, so one of them stands for all m, with log(m)
added to its score. This needs attention with a mask, which a GPU computes more slowly than the padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import do_pool
from torch import Tensor

from sam2vt.core.model.encoder_blocks import UnpaddedBlock
from sam2vt.core.model.layer_weights import bias_of


class SharedPaddingBlock(UnpaddedBlock):
    """A block of the encoder whose windows have one place for all their padding."""

    devices: tuple[str, ...] = ("cpu",)  # on which attention with a mask costs no more than without

    def attend(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Attend within windows, or over the whole map, for an output of `size`."""
        attention: Any = self.attn
        window = self.window_size or x.shape[1]
        shrink = self.q_stride[0] if self.q_stride else 1
        fits = not any(side % window for side in x.shape[1:3])
        # A pooled query must not cover padding in part.
        divides = not any(side % shrink for side in (window, *x.shape[1:3]))
        if fits or not divides or x.device.type not in self.devices:
            return super().attend(x, size)
        query, key_value = attention.qkv(x).split([self.dim_out, 2 * self.dim_out], -1)
        query = do_pool(query, attention.q_pool)
        padding = bias_of(attention.qkv, x)[self.dim_out :]
        return attention.proj(_attend_strips(attention.num_heads, query, key_value, padding, window))


def _attend_strips(heads: int, query: Tensor, key_value: Tensor, padding: Tensor, window: int) -> Tensor:
    """Attend from queries [I, H', W', C] to keys and values [I, H, W, 2 C]: [I, H', W', C].

    Windows at the lower and right edge are smaller, so windows of each of the four shapes run together.
    """
    rows = []
    for query_row, row, height in _strips(query, key_value, 1, window):
        columns = []
        for query_place, place, width in _strips(query_row, row, 2, window):
            shrink = place.shape[1] // query_place.shape[1]
            sides = (height // shrink, width // shrink)
            windows = (_in_windows(query_place, *sides), _in_windows(place, height, width))
            seen = _attend_windows(heads, *windows, padding, window**2 - height * width)
            columns.append(seen.unflatten(3, sides).transpose(2, 3).flatten(3, 4).flatten(1, 2))
        rows.append(torch.cat(columns, 2))
    return torch.cat(rows, 1)


def _strips(query: Tensor, key_value: Tensor, axis: int, window: int) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Yield the part of the maps that full windows cover, and the rest, each with its windows' side."""
    size = key_value.shape[axis]
    shrink, rest = size // query.shape[axis], size % window
    parts = [(size - rest, window), (rest, rest)]
    parts = [(length, side) for length, side in parts if length]
    # One split: its backward joins the pieces, where a slice for each would fill and add whole maps.
    queries = query.split([length // shrink for length, _ in parts], axis)
    others = key_value.split([length for length, _ in parts], axis)
    return ((*maps, side) for *maps, (_, side) in zip(queries, others, parts))  # type: ignore[misc]


def _in_windows(maps: Tensor, height: int, width: int) -> Tensor:
    """Cut [I, H, W, C] into windows [I, rows, columns, n, C]."""
    windows = maps.unflatten(2, (-1, width)).unflatten(1, (-1, height))
    return windows.transpose(2, 3).flatten(3, 4)


def _attend_windows(heads: int, query: Tensor, key_value: Tensor, padding: Tensor, num_padded: int) -> Tensor:
    """Attend within windows of one shape [I, rows, columns, n, C or 2 C]: [..., n, C].

    Each has `num_padded` padded places, whose key and value are `padding` [2 C].
    """
    queries = query.flatten(0, 2).unflatten(2, (heads, -1)).transpose(1, 2)
    keys, values = key_value.flatten(0, 2).unflatten(2, (2, heads, -1)).permute(2, 0, 3, 1, 4)
    mask = None
    if num_padded:
        key, value = padding.unflatten(0, (2, heads, 1, -1))
        keys = torch.cat([keys, key.expand(len(keys), -1, -1, -1)], 2)
        values = torch.cat([values, value.expand(len(values), -1, -1, -1)], 2)
        mask = keys.new_zeros(1, keys.shape[2])
        mask[:, -1] = math.log(num_padded)
    seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    return seen.transpose(1, 2).flatten(2).unflatten(0, query.shape[:3])
