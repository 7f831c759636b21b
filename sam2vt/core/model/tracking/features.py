"""Encode image features once per image, and pick them for the objects that read them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sam2vt.core.model.execution import recomputed


class FrameFeatures(NamedTuple):
    """Image features of I images, each level flattened to [h*w, I, C], finest first."""

    levels: list[Tensor]
    positions: Tensor  # [L, 1, C] of the coarsest level, the same for every image
    sizes: list[tuple[int, int]]

    def of(self, images: Sequence[int]) -> FrameFeatures:
        """Return the features of the chosen images, in that order; an image may occur several times."""
        return self._replace(levels=[pick(level, images) for level in self.levels])

    def maps(self) -> list[Tensor]:
        """Return the levels as [I, C, h, w]."""
        return [as_map(x, size) for x, size in zip(self.levels, self.sizes)]


def pick(columns: Tensor, places: Sequence[int]) -> Tensor:
    """Return columns of [L, I, C] by their places; a column for all is shared, not copied."""
    if list(places) == list(range(columns.shape[1])):
        return columns
    if len(set(places)) == 1:
        return columns[:, places[0] : places[0] + 1].expand(-1, len(places), -1)
    return columns[:, torch.tensor(places, device=columns.device)]


def as_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Return [h*w, I, C] as [I, C, h, w]."""
    return tokens.permute(1, 2, 0).unflatten(2, size)


def encode_images(
    network: Any, images: Tensor, one_by_one: bool = False, in_bf16: bool = False
) -> FrameFeatures:
    """Return features of normalised images [I, 3, H, W], after the mask decoder's conv_s0 and conv_s1.

    `one_by_one` encodes each image alone, and recomputes it in the backward pass if the encoder trains: the
    activations of one image are in memory, not of all. `in_bf16` encodes under autocast, to float32 features.
    """
    with torch.autocast(images.device.type, torch.bfloat16) if in_bf16 else nullcontext():
        maps = fpn_maps(network, images, one_by_one)
    if in_bf16:
        maps = [level.float() for level in maps]
    return as_features(network, finish_maps(network, maps))


def fpn_maps(network: Any, images: Tensor, one_by_one: bool = False) -> list[Tensor]:
    """Return the encoder's maps [I, C, h, w] of normalised images, finest first."""
    trains = any(parameter.requires_grad for parameter in network.image_encoder.parameters())
    encoded = [
        recomputed(one_by_one and trains, network.image_encoder, chunk)
        for chunk in images.split(1 if one_by_one else len(images))
    ]
    return [torch.cat(level) for level in zip(*(each["backbone_fpn"] for each in encoded))]


def finish_maps(network: Any, maps: list[Tensor]) -> list[Tensor]:
    """Return the maps that the tracker reads: the finer two after the mask decoder's convolutions."""
    if network.use_high_res_features_in_sam and not _are_finished(network):
        decoder = network.sam_mask_decoder
        maps = [decoder.conv_s0(maps[0]), decoder.conv_s1(maps[1]), *maps[2:]]
    return maps[-network.num_feature_levels :]


def _are_finished(network: Any) -> bool:
    return getattr(network.image_encoder.neck, "finishes", False)  # SAM 2's own neck does not


def as_features(network: Any, maps: list[Tensor]) -> FrameFeatures:
    """Return finished maps in the tracker's form; position codes depend only on their size."""
    codes = network.image_encoder.neck.position_encoding(maps[-1][:1]).to(maps[-1].dtype)
    return FrameFeatures(
        [_as_tokens(level) for level in maps],
        _as_tokens(codes),
        [(level.shape[2], level.shape[3]) for level in maps],
    )


def _as_tokens(maps: Tensor) -> Tensor:
    """Return [I, C, h, w] as [h*w, I, C]."""
    return maps.flatten(2).permute(2, 0, 1)
