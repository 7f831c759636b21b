"""Configurations of networks, to transformers and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sam2vt.core.model.build import completed, network_config, network_differences
from sam2vt.core.model.hf.config import FIELDS, config_of
from sam2vt.core.model.network_yaml import read_network, sizes_of
from sam2vt.errors import CheckpointError

METAS = [f"configs/{v}/{v}_hiera_{size}.yaml" for v in ("sam2", "sam2.1") for size in ("t", "s", "b+", "l")]


def write(folder: Path, config: dict) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps({"model_type": "sam2_video", **config}))
    return str(path)


@pytest.mark.parametrize("size", [512, 1024])
@pytest.mark.parametrize("yaml", METAS)
def test_metas_networks_there_and_back(tmp_path: Path, yaml: str, size: int) -> None:
    network = network_config(yaml, size)
    config = config_of(completed(network))
    path = write(tmp_path, config)
    assert sizes_of(path) == (size, 7)
    assert network_differences(network, network_config(path, size)) == []


@pytest.mark.parametrize("config", [{}, {"prompt_encoder_config": {"model_type": ""}}])  # as 4.56 saves it
def test_what_is_left_out_has_the_defaults_of_metas_tiny(tmp_path: Path, config: dict) -> None:
    network = network_config(write(tmp_path, config), 1024)
    assert network_differences(network, network_config("configs/sam2.1/sam2.1_hiera_t.yaml", 1024)) == []


@pytest.mark.parametrize("theirs", FIELDS)
def test_each_field_arrives(theirs: str) -> None:
    default, ours = FIELDS[theirs]
    changed = {bool: not default, str: "gelu"}.get(type(default))
    if changed is None:
        changed = [2 * each for each in default] if isinstance(default, list) else default + 16
    model = completed(network_config(METAS[4], 1024))
    _dig(model, ours[0], changed)
    assert _dig(config_of(model), theirs) == changed


def _dig(node: dict, place: str, value: object = None) -> object:
    """Return what is at a dotted place, after `value` is put there if given."""
    *parents, last = place.split(".")
    for part in parents:
        node = node[part]
    if value is not None:
        node[last] = value
    return node[last]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"vision_config": {"backbone_config": {"mlp_ratio": 3.0}}},
            "backbone_config.mlp_ratio is 3.0, must be 4",
        ),
        (
            {"prompt_encoder_config": {"image_size": 512}},
            "prompt_encoder_config.image_size is 512, must be 1024",
        ),
        ({"mask_decoder_config": {"mlp_dim": 1024}}, "mask_decoder_config.mlp_dim is 1024, must be 2048"),
        ({"rope_parameters": {"rope_theta": 5000.0}}, "rope_parameters.rope_theta is 5000.0, must be 10000"),
        ({"memory_attention_rope_theta": 5000}, "memory_attention_rope_theta is 5000, must be 10000"),
        ({"num_maskmem": "seven"}, "num_maskmem is 'seven', its default is 7"),
        ({"num_maskmem": True}, "num_maskmem is True"),
        (
            {"memory_attention_feed_forward_hidden_act": "${oc.env:HOME}"},
            r"hidden_act is '\$\{oc.env:HOME\}'",
        ),
        ({"vision_config": {"backbone_channel_list": ["${oc.env:HOME}"]}}, "backbone_channel_list is"),
    ],
)
def test_what_sam2_cannot_have_is_refused_by_name(tmp_path: Path, config: dict, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        read_network(write(tmp_path, config))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"model_type": "sam2"}', "'sam2'; needed is 'sam2_video'.*single images, without memory"),
        ('{"model_type": "vit"}', "model_type is 'vit'"),
        ("[]", "model_type is None"),
        ("{", "cannot be read as transformers' configuration"),
        ("[" * 100_000, "cannot be read as transformers' configuration"),
    ],
)
def test_other_models_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=words):
        read_network(str(tmp_path / "config.json"))
