"""Rename the network's tensors to those of `transformers.Sam2VideoModel`, and back.

All but two rows are a change of name alone, so that going there and back gives the same bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from sam2vt.errors import CheckpointError

# SAM 2's name -> the name there, without .weight and .bias. A * is one part of a name, the same in both. The
# first row that matches counts, so that `out_proj` comes before the other projections.
NAMES = {
    "image_encoder.trunk.pos_embed": "vision_encoder.backbone.pos_embed",
    "image_encoder.trunk.pos_embed_window": "vision_encoder.backbone.pos_embed_window",
    "image_encoder.trunk.patch_embed.proj": "vision_encoder.backbone.patch_embed.projection",
    "image_encoder.trunk.blocks.*.norm1": "vision_encoder.backbone.blocks.*.layer_norm1",
    "image_encoder.trunk.blocks.*.norm2": "vision_encoder.backbone.blocks.*.layer_norm2",
    "image_encoder.trunk.blocks.*.attn.qkv": "vision_encoder.backbone.blocks.*.attn.qkv",
    "image_encoder.trunk.blocks.*.attn.proj": "vision_encoder.backbone.blocks.*.attn.proj",
    "image_encoder.trunk.blocks.*.mlp.layers.0": "vision_encoder.backbone.blocks.*.mlp.proj_in",
    "image_encoder.trunk.blocks.*.mlp.layers.1": "vision_encoder.backbone.blocks.*.mlp.proj_out",
    "image_encoder.trunk.blocks.*.proj": "vision_encoder.backbone.blocks.*.proj",
    "image_encoder.neck.convs.*.conv": "vision_encoder.neck.convs.*",
    "memory_attention.layers.*.*.out_proj": "memory_attention.layers.*.*.o_proj",
    "memory_attention.layers.*.*.*_proj": "memory_attention.layers.*.*.*_proj",
    "memory_attention.layers.*.linear*": "memory_attention.layers.*.linear*",
    "memory_attention.layers.*.norm*": "memory_attention.layers.*.layer_norm*",
    "memory_attention.norm": "memory_attention.layer_norm",
    "memory_encoder.mask_downsampler.encoder.0": "memory_encoder.mask_downsampler.layers.0.conv",
    "memory_encoder.mask_downsampler.encoder.1": "memory_encoder.mask_downsampler.layers.0.layer_norm",
    "memory_encoder.mask_downsampler.encoder.3": "memory_encoder.mask_downsampler.layers.1.conv",
    "memory_encoder.mask_downsampler.encoder.4": "memory_encoder.mask_downsampler.layers.1.layer_norm",
    "memory_encoder.mask_downsampler.encoder.6": "memory_encoder.mask_downsampler.layers.2.conv",
    "memory_encoder.mask_downsampler.encoder.7": "memory_encoder.mask_downsampler.layers.2.layer_norm",
    "memory_encoder.mask_downsampler.encoder.9": "memory_encoder.mask_downsampler.layers.3.conv",
    "memory_encoder.mask_downsampler.encoder.10": "memory_encoder.mask_downsampler.layers.3.layer_norm",
    "memory_encoder.mask_downsampler.encoder.12": "memory_encoder.mask_downsampler.final_conv",
    "memory_encoder.pix_feat_proj": "memory_encoder.feature_projection",
    "memory_encoder.fuser.layers.*.dwconv": "memory_encoder.memory_fuser.layers.*.depthwise_conv",
    "memory_encoder.fuser.layers.*.norm": "memory_encoder.memory_fuser.layers.*.layer_norm",
    "memory_encoder.fuser.layers.*.pwconv*": "memory_encoder.memory_fuser.layers.*.pointwise_conv*",
    "memory_encoder.fuser.layers.*.gamma": "memory_encoder.memory_fuser.layers.*.scale",
    "memory_encoder.out_proj": "memory_encoder.projection",
    "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": (
        "prompt_encoder.shared_embedding.positional_embedding"
    ),
    "sam_prompt_encoder.not_a_point_embed": "prompt_encoder.not_a_point_embed",
    "sam_prompt_encoder.no_mask_embed": "prompt_encoder.no_mask_embed",
    "sam_prompt_encoder.mask_downscaling.0": "prompt_encoder.mask_embed.conv1",
    "sam_prompt_encoder.mask_downscaling.1": "prompt_encoder.mask_embed.layer_norm1",
    "sam_prompt_encoder.mask_downscaling.3": "prompt_encoder.mask_embed.conv2",
    "sam_prompt_encoder.mask_downscaling.4": "prompt_encoder.mask_embed.layer_norm2",
    "sam_prompt_encoder.mask_downscaling.6": "prompt_encoder.mask_embed.conv3",
    "sam_mask_decoder.transformer.layers.*.norm*": "mask_decoder.transformer.layers.*.layer_norm*",
    "sam_mask_decoder.transformer.layers.*.mlp.layers.0": "mask_decoder.transformer.layers.*.mlp.proj_in",
    "sam_mask_decoder.transformer.layers.*.mlp.layers.1": "mask_decoder.transformer.layers.*.mlp.proj_out",
    "sam_mask_decoder.transformer.layers.*.*.out_proj": "mask_decoder.transformer.layers.*.*.o_proj",
    "sam_mask_decoder.transformer.layers.*.*.*_proj": "mask_decoder.transformer.layers.*.*.*_proj",
    "sam_mask_decoder.transformer.*.out_proj": "mask_decoder.transformer.*.o_proj",
    "sam_mask_decoder.transformer.*.*_proj": "mask_decoder.transformer.*.*_proj",
    "sam_mask_decoder.transformer.norm_final_attn": "mask_decoder.transformer.layer_norm_final_attn",
    "sam_mask_decoder.*_token": "mask_decoder.*_token",
    "sam_mask_decoder.mask_tokens": "mask_decoder.mask_tokens",
    "sam_mask_decoder.output_upscaling.0": "mask_decoder.upscale_conv1",
    "sam_mask_decoder.output_upscaling.1": "mask_decoder.upscale_layer_norm",
    "sam_mask_decoder.output_upscaling.3": "mask_decoder.upscale_conv2",
    "sam_mask_decoder.conv_s*": "mask_decoder.conv_s*",
    "sam_mask_decoder.*_mlps.*.layers.0": "mask_decoder.*_mlps.*.proj_in",
    "sam_mask_decoder.*_mlps.*.layers.1": "mask_decoder.*_mlps.*.layers.0",
    "sam_mask_decoder.*_mlps.*.layers.2": "mask_decoder.*_mlps.*.proj_out",
    "sam_mask_decoder.*_head.layers.0": "mask_decoder.*_head.proj_in",
    "sam_mask_decoder.*_head.layers.1": "mask_decoder.*_head.layers.0",
    "sam_mask_decoder.*_head.layers.2": "mask_decoder.*_head.proj_out",
    "mask_downsample": "mask_downsample",
    "maskmem_tpos_enc": "memory_temporal_positional_encoding",
    "no_mem_embed": "no_memory_embedding",
    "no_mem_pos_enc": "no_memory_positional_encoding",
    "no_obj_ptr": "no_object_pointer",
    "no_obj_embed_spatial": "occlusion_spatial_embedding_parameter",
    "obj_ptr_proj.layers.0": "object_pointer_proj.proj_in",
    "obj_ptr_proj.layers.1": "object_pointer_proj.layers.0",
    "obj_ptr_proj.layers.2": "object_pointer_proj.proj_out",
    "obj_ptr_tpos_proj": "temporal_positional_encoding_projection_layer",
}
# The configuration says whether a network has them.
_OPTIONAL = {NAMES["no_obj_embed_spatial"], NAMES["obj_ptr_tpos_proj"]}
# Four tensors here, the rows of one there.
_POINTS = tuple(f"sam_prompt_encoder.point_embeddings.{number}.weight" for number in range(4))
_POINT_ROWS = "prompt_encoder.point_embed.weight"
# One tensor here, two equal ones there; versions before 5 save the first alone.
_GAUSSIAN = ("shared_image_embedding.positional_embedding", NAMES[next(n for n in NAMES if "gaussian" in n)])


def to_transformers(state: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """Return the network's tensors under the names of `Sam2VideoModel`.

    Raises CheckpointError, which names the tensors of `path` that have no place there.
    """
    single = {name: value for name, value in state.items() if name not in _POINTS}
    table = _rows(NAMES.items())
    renamed = {name: _renamed(name, table) for name in single}
    homeless = [name for name, new in renamed.items() if new is None]
    if homeless:
        raise CheckpointError(
            f"{path}: transformers' Sam2VideoModel has no place for {len(homeless)} of its tensors: "
            f"{', '.join(homeless[:3])}{' ...' * (len(homeless) > 3)}. Export without --to hf"
        )
    found = {str(renamed[name]): value.contiguous() for name, value in single.items()}
    made = _rows((theirs, theirs) for theirs in NAMES.values())
    lacking = [
        new for pattern, new in made if new not in _OPTIONAL and not any(map(pattern.fullmatch, found))
    ]
    lacking += [name for name in _POINTS if name not in state]
    if lacking:
        raise CheckpointError(
            f"{path}: transformers' Sam2VideoModel needs tensors that this network does not have: "
            f"{', '.join(lacking[:3])}{' ...' * (len(lacking) > 3)}. Export without --to hf"
        )
    found[_POINT_ROWS] = torch.cat([state[name] for name in _POINTS])
    # safetensors refuses two names of one memory.
    found[_GAUSSIAN[0]] = found[_GAUSSIAN[1]].clone()
    return found


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of a `Sam2VideoModel` under SAM 2's names; unknown names stay as they are."""
    table = _rows((theirs, ours) for ours, theirs in NAMES.items())
    taken = dict(state)
    rows = taken.pop(_POINT_ROWS, None)
    first = taken.pop(_GAUSSIAN[0], None)
    if first is not None:
        taken.setdefault(_GAUSSIAN[1], first)
    found = {_renamed(name, table) or name: value for name, value in taken.items()}
    if rows is not None:
        found |= {
            _POINTS[number]: rows[number : number + 1] for number in range(min(len(rows), len(_POINTS)))
        }
    return found


def _rows(pairs: Iterable[tuple[str, str]]) -> list[tuple[re.Pattern[str], str]]:
    """Return each row as the pattern of a whole name, and the new name with places for its parts."""
    return [
        (re.compile(re.escape(old).replace(r"\*", "([^.]+)") + r"(\.weight|\.bias)?"), new.replace("*", "{}"))
        for old, new in pairs
    ]


def _renamed(name: str, table: Iterable[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, new in table:
        if match := pattern.fullmatch(name):
            *parts, kind = match.groups()
            return new.format(*parts) + (kind or "")
    return None
