"""Compute features of frames that can be kept between steps, by frozen modules only."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor

from sam2vt.core.model.tracking.features import FrameFeatures, as_features, finish_maps, fpn_maps
from sam2vt.errors import ConfigError


def keep_maps(network: Any, images: Tensor) -> list[Tensor]:
    """Return bf16 maps [I, C, h, w] of normalised images, finest first; after frozen conv_s0 and conv_s1."""
    maps = fpn_maps(network, images)
    maps = finish_maps(network, maps) if _is_finished(network) else maps[-network.num_feature_levels :]
    return [level.bfloat16() for level in maps]


def features_of(network: Any, kept: list[Tensor]) -> FrameFeatures:
    """Return the result of `encode_images` for the images of kept maps, except for rounding."""
    precision = next(network.parameters()).dtype
    maps = [level.to(precision) for level in kept]
    return as_features(network, maps if _is_finished(network) else finish_maps(network, maps))


def kept_shapes(network: Any, image_size: int) -> list[tuple[int, int, int]]:
    """Return (C, h, w) of the maps of a frame, finest first."""
    channels = [network.image_encoder.neck.d_model] * network.num_feature_levels
    if _is_finished(network) and network.use_high_res_features_in_sam:
        decoder = network.sam_mask_decoder
        channels[:2] = decoder.conv_s0.out_channels, decoder.conv_s1.out_channels
    # Each level has half the stride of the next; the coarsest has SAM 2's 16.
    strides = [16 >> place for place in reversed(range(len(channels)))]
    return [(each, image_size // stride, image_size // stride) for each, stride in zip(channels, strides)]


def describe_encoder(network: Any, *settings: Any) -> str:
    """Return the SHA-256 of the weights that make kept maps, and of `settings`, which define their use.

    Raises ConfigError if some of these weights train.
    """
    trained = [name for name, each in network.image_encoder.named_parameters() if each.requires_grad]
    if trained:
        raise ConfigError(
            f"dataset.feature_cache: image_encoder trains ({trained[0]}, ...), so its features change; "
            "set dataset.feature_cache=null, or leave it out of model.trainable_modules"
        )
    state = network.image_encoder.state_dict()
    if _is_finished(network) and network.use_high_res_features_in_sam:
        for name in ("conv_s0", "conv_s1"):
            own = getattr(network.sam_mask_decoder, name).state_dict()
            state |= {f"{name}.{key}": value for key, value in own.items()}
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, value in state.items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        # As bytes: NumPy has no bf16.
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _is_finished(network: Any) -> bool:
    """Return whether kept maps have gone through conv_s0 and conv_s1: they have unless these train."""
    if not network.use_high_res_features_in_sam:
        return True
    decoder = network.sam_mask_decoder
    convs = [*decoder.conv_s0.parameters(), *decoder.conv_s1.parameters()]
    return not any(each.requires_grad for each in convs)
