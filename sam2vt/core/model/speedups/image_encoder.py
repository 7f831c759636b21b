"""Blocks of SAM 2's image encoder without work on padding: the same features from fewer operations.

Where windows do not divide a feature map, SAM 2 fills the map up with zeros and throws away what comes out
of those places. Attention has to see them, with the bias as their keys and values; the linear layers around
it do not. At 256 px this saves a third of the encoder's work, at 1024 px a twentieth.

The filled places of a window are all the same to attention, so one of them stands for all m, with log(m)
added to its score. On a GPU, whose attention is fastest without a mask, they stay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import MultiScaleBlock, do_pool
from sam2.modeling.backbones.utils import window_partition, window_unpartition
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sam2vt.core.model.recompute import again

# Devices on which attention with a mask costs no more than without.
SHARES_FILLED_PLACES = ("cpu",)


class UnpaddedBlock(MultiScaleBlock):
    """A block of the encoder whose linear layers leave out the places that only fill windows up.

    With `recompute` it keeps nothing but its input for backward.
    """

    recompute = False

    def forward(self, x: Tensor) -> Tensor:
        """[I, H, W, C] to [I, H', W', C']."""
        return again(self.recompute, self._forward, x)

    def _forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        shortcut = x if self.dim == self.dim_out else _pool(self.proj(normed), self.pool)
        x = shortcut + self.drop_path(self._attend(normed, (shortcut.shape[1], shortcut.shape[2])))
        return x + self.drop_path(self._feed_forward(self.norm2(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        """The activation is made again in backward: it costs little and is the block's largest map."""
        mlp: Any = self.mlp
        first, second = mlp.layers
        hidden = first(x)
        wanted = hidden.requires_grad and not self.recompute and not torch.compiler.is_compiling()
        return again(wanted, lambda x: second(mlp.act(x)), hidden, draws=False)

    def _attend(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Attention within windows, or of the whole map, for an output of `size`."""
        attention: Any = self.attn
        window = self.window_size or x.shape[1]
        shrink = self.q_stride[0] if self.q_stride else 1
        fits = not any(side % window for side in x.shape[1:3])
        # A pooled query must not lie half on a filled place.
        divides = not any(side % shrink for side in (window, *x.shape[1:3]))
        if not fits and x.device.type in SHARES_FILLED_PLACES and divides:
            query, rest = attention.qkv(x).split([self.dim_out, 2 * self.dim_out], -1)
            return attention.proj(_attend_places(attention, _pool(query, attention.q_pool), rest, window))
        if fits:
            windows, padded = window_partition(x, window)
            projected = attention.qkv(windows)
        else:
            windows, padded = window_partition(F.linear(x, attention.qkv.weight), window)
            projected = windows + attention.qkv.bias.to(windows.dtype)
        padded = (padded[0] // shrink, padded[1] // shrink)
        seen = _attend_windows(attention, projected)
        return attention.proj(window_unpartition(seen, window // shrink, padded, size))


def _pool(maps: Tensor, pool: Any) -> Tensor:
    """Maps [I, H, W, C] pooled as the module says, or as they are where there is none."""
    if pool is None:
        return maps
    by_two = pool.kernel_size == (2, 2) and pool.stride == (2, 2)
    if by_two and not torch.compiler.is_compiling() and not any(side % 2 for side in maps.shape[1:3]):
        return max_pool(maps)
    return do_pool(maps, pool)


def _attend_places(attention: Any, query: Tensor, key_value: Tensor, window: int) -> Tensor:
    """Of maps of queries [I, H', W', C], and of keys and values [I, H, W, 2 C]: [I, H', W', C].

    Windows at the lower and right edge are smaller: each of the four shapes is attended for itself.
    """
    rows = []
    for query_row, row, height in _strips(query, key_value, 1, window):
        columns = []
        for query_place, place, width in _strips(query_row, row, 2, window):
            shrink = place.shape[1] // query_place.shape[1]
            sides = (height // shrink, width // shrink)
            of_windows = (_in_windows(query_place, *sides), _in_windows(place, height, width))
            seen = _attend_alike(attention, *of_windows, window**2 - height * width)
            columns.append(seen.unflatten(3, sides).transpose(2, 3).flatten(3, 4).flatten(1, 2))
        rows.append(torch.cat(columns, 2))
    return torch.cat(rows, 1)


def _strips(query: Tensor, key_value: Tensor, axis: int, window: int) -> Iterator[tuple[Tensor, Tensor, int]]:
    """The part of the maps that full windows cover, and the rest, each with the side of its windows."""
    size = key_value.shape[axis]
    shrink, rest = size // query.shape[axis], size % window
    parts = [(size - rest, window), (rest, rest)]
    parts = [(length, side) for length, side in parts if length]
    # Cut at once: backward then joins the pieces, where a slice of its own each would fill and add maps.
    queries = query.split([length // shrink for length, _ in parts], axis)
    others = key_value.split([length for length, _ in parts], axis)
    return ((*maps, side) for *maps, (_, side) in zip(queries, others, parts))  # type: ignore[misc]


def _in_windows(maps: Tensor, height: int, width: int) -> Tensor:
    """[I, H, W, C] as windows [I, rows, columns, n, C]."""
    windows = maps.unflatten(2, (-1, width)).unflatten(1, (-1, height))
    return windows.transpose(2, 3).flatten(3, 4)


def _attend_alike(attention: Any, query: Tensor, key_value: Tensor, num_filled: int) -> Tensor:
    """Windows of one shape [I, rows, columns, n, C or 2 C], each with so many filled places: [..., n, C]."""
    heads = attention.num_heads
    queries = query.flatten(0, 2).unflatten(2, (heads, -1)).transpose(1, 2)
    keys, values = key_value.flatten(0, 2).unflatten(2, (2, heads, -1)).permute(2, 0, 3, 1, 4)
    mask = None
    if num_filled:
        _, filled_key, filled_value = attention.qkv.bias.unflatten(0, (3, heads, 1, -1)).to(keys.dtype)
        keys = torch.cat([keys, filled_key.expand(len(keys), -1, -1, -1)], 2)
        values = torch.cat([values, filled_value.expand(len(values), -1, -1, -1)], 2)
        mask = keys.new_zeros(1, keys.shape[2])
        mask[:, -1] = math.log(num_filled)
    seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    return seen.transpose(1, 2).flatten(2).unflatten(0, query.shape[:3])


def _attend_windows(attention: Any, qkv: Tensor) -> Tensor:
    """Windows of queries, keys and values [W, h, w, 3 C] to what attention gives, [W, h', w', C]."""
    count, height, width, _ = qkv.shape
    heads = attention.num_heads
    query, key, value = qkv.flatten(1, 2).unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    if attention.q_pool:
        flat = query.transpose(1, 2).reshape(count, height, width, -1)
        pooled = _pool(flat, attention.q_pool)
        height, width = pooled.shape[1:3]
        query = pooled.reshape(count, height * width, heads, -1).transpose(1, 2)
    seen = F.scaled_dot_product_attention(query, key, value)
    return seen.transpose(1, 2).reshape(count, height, width, -1)


def recompute_blocks(network: nn.Module) -> None:
    """Let every block of the encoder compute its activations again in backward."""
    for module in network.modules():
        if isinstance(module, UnpaddedBlock):
            module.recompute = True


_PLACES = ((0, 0), (0, 1), (1, 0), (1, 1))


def max_pool(maps: Tensor) -> Tensor:
    """The largest of every 2 x 2 places of maps [I, H, W, C], H and W even: [I, H/2, W/2, C]."""
    return _MaxPool.apply(maps)


class _MaxPool(torch.autograd.Function):
    """Of equal values the first, as PyTorch has it."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        largest = maps[:, ::2, ::2]
        chosen = torch.zeros_like(largest, dtype=torch.uint8) if ctx.needs_input_grad[0] else None
        for number, (row, column) in enumerate(_PLACES[1:], 1):
            other = maps[:, row::2, column::2]
            if chosen is not None:
                chosen.masked_fill_(other > largest, number)
            largest = torch.maximum(largest, other)
        ctx.save_for_backward(chosen)
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (chosen,) = ctx.saved_tensors
        images, height, width, channels = gradient.shape
        result = gradient.new_empty(images, 2 * height, 2 * width, channels)
        for number, (row, column) in enumerate(_PLACES):
            result[:, row::2, column::2] = torch.where(chosen == number, gradient, 0)
        return result
