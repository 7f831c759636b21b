"""Translate the network's configuration to that of `transformers.Sam2VideoConfig`, and back.

Both directions use the table FIELDS. Whatever it leaves out is fixed in the other form: it shows as a
difference when a configuration is translated there and back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sam2vt.core.storage.hf_folder import MODEL_TYPE
from sam2vt.errors import CheckpointError

STRIDE = 16  # of the features that have memory; fixed there
TEMPLATE = "configs/sam2.1/sam2.1_hiera_t.yaml"  # what there is fixed, Meta's YAMLs have in common

_TRUNK, _NECK = "image_encoder.trunk", "image_encoder.neck"
_LAYER, _ENCODER = "memory_attention.layer", "memory_encoder"
_SELF, _CROSS = f"{_LAYER}.self_attention", f"{_LAYER}.cross_attention"
_BACKBONE = "vision_config.backbone_config"

# Their field -> (their default, our fields of the network's YAML).
FIELDS: dict[str, tuple[Any, tuple[str, ...]]] = {
    f"{_BACKBONE}.hidden_size": (96, (f"{_TRUNK}.embed_dim",)),
    f"{_BACKBONE}.num_attention_heads": (1, (f"{_TRUNK}.num_heads",)),
    f"{_BACKBONE}.blocks_per_stage": ([1, 2, 7, 2], (f"{_TRUNK}.stages",)),
    f"{_BACKBONE}.global_attention_blocks": ([5, 7, 9], (f"{_TRUNK}.global_att_blocks",)),
    f"{_BACKBONE}.window_size_per_stage": ([8, 4, 14, 7], (f"{_TRUNK}.window_spec",)),
    f"{_BACKBONE}.window_positional_embedding_background_size": (
        [7, 7],
        (f"{_TRUNK}.window_pos_embed_bkg_spatial_size",),
    ),
    f"{_BACKBONE}.num_query_pool_stages": (3, (f"{_TRUNK}.q_pool",)),
    "vision_config.backbone_channel_list": ([768, 384, 192, 96], (f"{_NECK}.backbone_channel_list",)),
    "vision_config.fpn_hidden_size": (256, (f"{_NECK}.d_model", f"{_NECK}.position_encoding.num_pos_feats")),
    "vision_config.fpn_kernel_size": (1, (f"{_NECK}.kernel_size",)),
    "vision_config.fpn_stride": (1, (f"{_NECK}.stride",)),
    "vision_config.fpn_padding": (0, (f"{_NECK}.padding",)),
    "vision_config.fpn_top_down_levels": ([2, 3], (f"{_NECK}.fpn_top_down_levels",)),
    "num_maskmem": (7, ("num_maskmem",)),
    "image_size": (1024, ("image_size",)),
    "sigmoid_scale_for_mem_enc": (20.0, ("sigmoid_scale_for_mem_enc",)),
    "sigmoid_bias_for_mem_enc": (-10.0, ("sigmoid_bias_for_mem_enc",)),
    "enable_occlusion_spatial_embedding": (True, ("no_obj_embed_spatial",)),
    "multimask_output_in_sam": (True, ("multimask_output_in_sam",)),
    "multimask_min_pt_num": (0, ("multimask_min_pt_num",)),
    "multimask_max_pt_num": (1, ("multimask_max_pt_num",)),
    "multimask_output_for_tracking": (True, ("multimask_output_for_tracking",)),
    "max_object_pointers_in_encoder": (16, ("max_obj_ptrs_in_encoder",)),
    "max_cond_frame_num": (-1, ("max_cond_frames_in_attn",)),
    "enable_temporal_pos_encoding_for_object_pointers": (
        True,
        ("add_tpos_enc_to_obj_ptrs", "proj_tpos_enc_in_obj_ptrs", "use_signed_tpos_enc_to_obj_ptrs"),
    ),
    "memory_attention_hidden_size": (
        256,
        (
            "memory_attention.d_model",
            f"{_LAYER}.d_model",
            f"{_SELF}.embedding_dim",
            f"{_CROSS}.embedding_dim",
        ),
    ),
    "memory_attention_num_layers": (4, ("memory_attention.num_layers",)),
    "memory_attention_num_attention_heads": (1, (f"{_SELF}.num_heads", f"{_CROSS}.num_heads")),
    "memory_attention_downsample_rate": (1, (f"{_SELF}.downsample_rate", f"{_CROSS}.downsample_rate")),
    "memory_attention_feed_forward_hidden_size": (2048, (f"{_LAYER}.dim_feedforward",)),
    "memory_attention_feed_forward_hidden_act": ("relu", (f"{_LAYER}.activation",)),
    "memory_attention_dropout": (0.1, (f"{_LAYER}.dropout",)),
    "memory_attention_rope_dropout": (0.1, (f"{_SELF}.dropout", f"{_CROSS}.dropout")),
    "memory_encoder_hidden_size": (256, (f"{_ENCODER}.in_dim",)),
    "memory_encoder_output_channels": (
        64,
        (f"{_ENCODER}.out_dim", f"{_ENCODER}.position_encoding.num_pos_feats"),
    ),
    "mask_downsampler_embed_dim": (256, (f"{_ENCODER}.mask_downsampler.embed_dim",)),
    "mask_downsampler_kernel_size": (3, (f"{_ENCODER}.mask_downsampler.kernel_size",)),
    "mask_downsampler_stride": (2, (f"{_ENCODER}.mask_downsampler.stride",)),
    "mask_downsampler_padding": (1, (f"{_ENCODER}.mask_downsampler.padding",)),
    "mask_downsampler_total_stride": (16, (f"{_ENCODER}.mask_downsampler.total_stride",)),
    "memory_fuser_num_layers": (2, (f"{_ENCODER}.fuser.num_layers",)),
    "memory_fuser_embed_dim": (256, (f"{_ENCODER}.fuser.layer.dim",)),
    "memory_fuser_kernel_size": (7, (f"{_ENCODER}.fuser.layer.kernel_size",)),
    "memory_fuser_padding": (3, (f"{_ENCODER}.fuser.layer.padding",)),
    "memory_fuser_layer_scale_init_value": (1e-6, (f"{_ENCODER}.fuser.layer.layer_scale_init_value",)),
}
# Their fields that no YAML can change.
_FIXED: dict[str, Any] = {
    **{f"{_BACKBONE}.{name}": value for name, value in {"num_channels": 3, "mlp_ratio": 4.0}.items()},
    # SAM 2's own default. In a YAML it would be a list, by which the network cannot pool.
    f"{_BACKBONE}.query_stride": [2, 2],
    f"{_BACKBONE}.patch_kernel_size": [7, 7],
    f"{_BACKBONE}.patch_stride": [4, 4],
    f"{_BACKBONE}.patch_padding": [3, 3],
    "vision_config.num_feature_levels": 3,
    "prompt_encoder_config.patch_size": STRIDE,
    "prompt_encoder_config.mask_input_channels": 16,
    "prompt_encoder_config.num_point_embeddings": 4,
    "prompt_encoder_config.scale": 1,
    "mask_decoder_config.mlp_dim": 2048,
    "mask_decoder_config.num_hidden_layers": 2,
    "mask_decoder_config.num_attention_heads": 8,
    "mask_decoder_config.attention_downsample_rate": 2,
    "mask_decoder_config.num_multimask_outputs": 3,
    "mask_decoder_config.iou_head_depth": 3,
    "mask_decoder_config.iou_head_hidden_dim": 256,
    # SAM 2's video predictor works with these, too.
    "mask_decoder_config.dynamic_multimask_via_stability": True,
    "mask_decoder_config.dynamic_multimask_stability_delta": 0.05,
    "mask_decoder_config.dynamic_multimask_stability_thresh": 0.98,
    "mask_downsampler_hidden_act": "gelu",
    "memory_fuser_hidden_act": "gelu",
    **{f"{each}.hidden_act": "gelu" for each in (_BACKBONE, "vision_config", "prompt_encoder_config")},
    "mask_decoder_config.hidden_act": "gelu",
}
_THETAS = ("rope_parameters.rope_theta", "memory_attention_rope_theta")  # since version 5, and before
_THETA = 10_000
_KINDS = {
    "": MODEL_TYPE,
    "vision_config": "sam2_vision_model",
    _BACKBONE: "sam2_hiera_det_model",
    "prompt_encoder_config": "sam2_video_prompt_encoder",
    "mask_decoder_config": "sam2_video_mask_decoder",
}


def config_of(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration for `Sam2VideoConfig` of a network's fields, of which none is left out.

    It may not hold the network: translate it back and compare.
    """
    values = {theirs: _get(model, places[0], default) for theirs, (default, places) in FIELDS.items()}
    values = {n: float(v) if isinstance(FIELDS[n][0], float) else v for n, v in values.items()}
    config: dict[str, Any] = {}
    for place, value in {**values, **_FIXED, **_derived(values)}.items():
        _put(config, place, value)
    for place, kind in _KINDS.items():
        _put(config, f"{place}.model_type".strip("."), kind)
    return {"architectures": ["Sam2VideoModel"], **config}


def network_of(config: Mapping[str, Any], template: DictConfig, path: str) -> DictConfig:
    """Return the section `model` of a network's YAML for a `Sam2VideoConfig`, made from that of Meta's tiny.

    Fields that the configuration leaves out have its defaults. Raises CheckpointError for another model, and
    for values that SAM 2's network cannot have.
    """
    model = template.copy()
    faults = []
    for theirs, (default, places) in FIELDS.items():
        value = _get(config, theirs, default)
        if theirs == "image_size" and isinstance(value, list) and len({*map(str, value)}) == 1:
            value = value[0]
        if not _is_like(value, default):  # before OmegaConf would resolve what is written in a text
            faults.append(f"{theirs} is {value!r}, its default is {default!r}")
            continue
        for place in places:
            OmegaConf.update(model, place, value, force_add=True)
    plain: Any = OmegaConf.to_container(model)
    faults = faults or list(_differences(config, config_of(plain)))
    if faults:
        raise CheckpointError(f"{path}: SAM 2's network cannot be built like this: {'; '.join(faults[:3])}")
    return model


def _derived(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return their fields that follow from others."""
    size, width, neck = (
        values["image_size"],
        values[f"{_BACKBONE}.hidden_size"],
        "vision_config.fpn_hidden_size",
    )
    heads, stages = (
        values[f"{_BACKBONE}.num_attention_heads"],
        range(len(values[f"{_BACKBONE}.blocks_per_stage"])),
    )
    return {
        f"{_BACKBONE}.image_size": [size, size],
        f"{_BACKBONE}.embed_dim_per_stage": [width * 2**stage for stage in stages],
        f"{_BACKBONE}.num_attention_heads_per_stage": [heads * 2**stage for stage in stages],
        "vision_config.backbone_feature_sizes": [[size // stride] * 2 for stride in (4, 8, STRIDE)],
        "prompt_encoder_config.image_size": size,
        "prompt_encoder_config.hidden_size": values[neck],
        "mask_decoder_config.hidden_size": values[neck],
        "memory_attention_rope_feat_sizes": [size // STRIDE] * 2,
        "memory_fuser_intermediate_dim": 4 * values["memory_fuser_embed_dim"],
    }


def _differences(config: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    """Yield each field of `config` that is not as in `made`, which has all."""
    for place, value in _leaves(made):
        if place.endswith(("architectures", "model_type")):  # 4.56 writes empty types of the parts
            continue
        given = _get(config, place, value)
        if value not in (given, [given, given]) and given != [value, value]:
            yield f"{place} is {given}, must be {value}"
    for place in _THETAS:
        if (given := _get(config, place, _THETA)) != _THETA:
            yield f"{place} is {given}, must be {_THETA}"


def _leaves(node: Mapping[str, Any], front: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{front}{name}.")
        else:
            yield f"{front}{name}", value


def _get(config: Mapping[str, Any], place: str, default: Any) -> Any:
    """Return the value at a dotted place, `default` where it is missing or null."""
    node: Any = config
    for part in place.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return default if node is None else node


def _put(config: dict[str, Any], place: str, value: Any) -> None:
    *parents, last = place.split(".")
    for part in parents:
        config = config.setdefault(part, {})
    config[last] = value


def _is_like(value: Any, default: Any) -> bool:
    """Return whether a value has the type of its default: flags, numbers, names of activations, lists."""
    if isinstance(default, list):
        return isinstance(value, list) and all(_is_like(each, 0) for each in value)
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, str):
        return value in ("relu", "gelu")
    return type(value) is type(default)
