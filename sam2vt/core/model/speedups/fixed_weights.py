"""Compute values that depend only on an encoder's weights once, for a network that is not trained."""

from __future__ import annotations

from typing import Any

import torch
from sam2.modeling.backbones.hieradet import Hiera
from torch import Tensor, nn
from torch.nn.functional import conv2d

from sam2vt.core.model.encoder_blocks import PlainNeck
from sam2vt.core.model.layer_weights import weight_and_bias


class FixedTrunk(Hiera):
    """The trunk, whose position codes are made once per size."""

    codes: dict[tuple[int, ...], Tensor]

    def _get_pos_embed(self, hw: Any) -> Tensor:
        size = tuple(hw)
        if size not in self.codes:
            self.codes[size] = super()._get_pos_embed(size).contiguous()
        return self.codes[size]


class FixedNeck(PlainNeck):
    """The neck, whose two finest maps are those after the mask decoder's convolutions.

    Nothing else reads them, and two successive convolutions of single pixels are one.
    """

    finishes = True
    joined: list[tuple[Tensor, Tensor]]  # weight and bias of each of these levels

    def lateral(self, level: int, x: Tensor) -> Tensor:
        """Return the trunk's map of a level in the neck's channels, or in those of the mask decoder."""
        return conv2d(x, *self.joined[level]) if level < len(self.joined) else super().lateral(level, x)


@torch.no_grad()
def fix_weights(network: Any) -> None:
    """Precompute values that depend only on the weights of a network in eval mode; the weights must stay.

    Names and values of parameters stay. Results are the same except for rounding.
    """
    trunk, neck = network.image_encoder.trunk, network.image_encoder.neck
    if type(trunk) is Hiera:
        trunk.__class__, trunk.codes = FixedTrunk, {}
    if type(neck) is not PlainNeck or not network.use_high_res_features_in_sam:
        return
    pairs = [
        (neck.convs[-1].conv, network.sam_mask_decoder.conv_s0),
        (neck.convs[-2].conv, network.sam_mask_decoder.conv_s1),
    ]
    # An adapter's convolution is of another class.
    is_plain = all(type(each) is nn.Conv2d and each.kernel_size == (1, 1) for pair in pairs for each in pair)
    if is_plain and min(neck.fpn_top_down_levels, default=2) > 1:
        neck.__class__, neck.joined = FixedNeck, [_joined(*pair) for pair in pairs]


def _joined(first: nn.Conv2d, second: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the convolution that two of single pixels make."""
    weight, bias = weight_and_bias(first, first.in_channels)
    outer, added = weight_and_bias(second, second.in_channels)
    dtype = next(first.parameters()).dtype
    return (outer @ weight)[..., None, None].to(dtype), (outer @ bias + added).to(dtype)
