"""Parts of SAM 2's image encoder without wasted work: the same features from fewer operations.

If windows do not divide a feature map, SAM 2 pads the map with zeros and discards the output of the padding.
Attention has to see the padding, with the bias as its keys and values; the linear layers around it do not. At
256 px this saves a third of the encoder's work, at 1024 px a twentieth.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import MultiScaleBlock, do_pool
from sam2.modeling.backbones.image_encoder import FpnNeck
from sam2.modeling.backbones.utils import PatchEmbed, window_partition, window_unpartition
from torch import Tensor, nn

from sam2vt.core.model.execution import recomputed
from sam2vt.core.model.layer_weights import bias_of


class UnpaddedBlock(MultiScaleBlock):
    """A block of the encoder whose linear layers skip the padding of windows.

    With `recompute` it stores only its input for the backward pass.
    """

    recompute = False

    def forward(self, x: Tensor) -> Tensor:
        """Map [I, H, W, C] to [I, H', W', C']."""
        return recomputed(self.recompute, self._forward, x)

    def attend(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Attend within windows, or over the whole map, for an output of `size`."""
        attention: Any = self.attn
        window = self.window_size or x.shape[1]
        shrink = self.q_stride[0] if self.q_stride else 1
        windows, padded = window_partition(_projected_with_padding(attention, x, window), window)
        seen = _attend_windows(attention, windows)
        padded = (padded[0] // shrink, padded[1] // shrink)
        return attention.proj(window_unpartition(seen, window // shrink, padded, size))

    def _forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        shortcut = x if self.dim == self.dim_out else do_pool(self.proj(normed), self.pool)
        x = shortcut + self.drop_path(self.attend(normed, (shortcut.shape[1], shortcut.shape[2])))
        return x + self.drop_path(self._feed_forward(self.norm2(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        mlp: Any = self.mlp
        first, second = mlp.layers
        hidden = first(x)
        # GELU costs little and its output is the block's largest map: 15% of what a step stores.
        wanted = hidden.requires_grad and not self.recompute and not torch.compiler.is_compiling()
        draws = type(second) is not nn.Linear  # an adapter may have dropout
        return recomputed(wanted, lambda x: second(mlp.act(x)), hidden, draws=draws)


class ContiguousPatches(PatchEmbed):
    """The embedding of patches in the order in which blocks read it, so that no block has to reorder it."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images [I, 3, H, W] to [I, H/4, W/4, C]."""
        return super().forward(x).contiguous()


class PlainNeck(FpnNeck):
    """The neck without position codes; `as_features` makes those of the only level that is read."""

    finishes = False  # whether its finer maps are those after the mask decoder's convolutions

    def forward(self, xs: list[Tensor]) -> tuple[list[Tensor], list[None]]:  # type: ignore[override]
        """Map the trunk's maps [I, C, h, w], finest first, to the neck's channels."""
        maps: list[Tensor] = []
        for level in reversed(range(len(xs))):
            here = self.lateral(level, xs[level])
            if maps and level in self.fpn_top_down_levels:
                corners = None if self.fpn_interp_model == "nearest" else False
                how: dict[str, Any] = {"mode": self.fpn_interp_model, "align_corners": corners}
                here = here + F.interpolate(maps[0].float(), scale_factor=2.0, **how)
                here = here / 2 if self.fuse_type == "avg" else here
            maps.insert(0, here)
        return maps, [None] * len(maps)

    def lateral(self, level: int, x: Tensor) -> Tensor:
        """Return the trunk's map of a level in the neck's channels."""
        return self.convs[len(self.convs) - 1 - level](x)


def _projected_with_padding(attention: Any, x: Tensor, window: int) -> Tensor:
    """Project x [I, H, W, C] and pad the result below and at the right to multiples of the window."""
    projected = attention.qkv(x)
    for axis in (1, 2):
        missing = -x.shape[axis] % window
        if missing:
            shape = [*projected.shape]
            shape[axis] = missing
            filling = bias_of(attention.qkv, x).expand(shape)
            projected = torch.cat([projected, filling], axis)
    return projected


def _attend_windows(attention: Any, qkv: Tensor) -> Tensor:
    """Map windows of queries, keys and values [W, h, w, 3 C] to the attention's result [W, h', w', C]."""
    count, height, width, _ = qkv.shape
    heads = attention.num_heads
    query, key, value = qkv.flatten(1, 2).unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    if attention.q_pool:
        flat = query.transpose(1, 2).reshape(count, height, width, -1)
        pooled = do_pool(flat, attention.q_pool)
        height, width = pooled.shape[1:3]
        query = pooled.reshape(count, height * width, heads, -1).transpose(1, 2)
    seen = F.scaled_dot_product_attention(query, key, value)
    return seen.transpose(1, 2).reshape(count, height, width, -1)
