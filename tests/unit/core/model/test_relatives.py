"""What a file of weights is, by its tensors alone."""

from __future__ import annotations

import pytest
import torch

from sam2vt.core.model.build import build_network, network_config
from sam2vt.core.model.network_yaml import meta_yaml, read_network
from sam2vt.core.model.relatives import recognised

NANO = "network/sam2.1_nano.yaml"


@pytest.fixture(scope="module")
def nano() -> dict[str, torch.Tensor]:
    return build_network(network_config(NANO, 64)).state_dict()


def tensors_by(yaml: str) -> dict[str, torch.Tensor]:
    """The tensors that tell networks apart, as a YAML of SAM 2's has them."""
    network = read_network(yaml)
    trunk, prefix = network.image_encoder.trunk, "image_encoder.trunk"
    depth = sum(trunk.get("stages", (2, 3, 16, 3)))  # the default of SAM 2's class
    names = [f"{prefix}.blocks.{place}.norm1.weight" for place in range(depth)]
    names += [f"{prefix}.pos_embed_window", "memory_attention.norm.weight"]
    names += ["no_obj_embed_spatial"] if network.get("no_obj_embed_spatial") else []
    patches = torch.empty(trunk.get("embed_dim", 96), 3, 7, 7)
    return {**dict.fromkeys(names, torch.empty(1)), f"{prefix}.patch_embed.proj.weight": patches}


@pytest.mark.parametrize("version", ["sam2", "sam2.1"])
@pytest.mark.parametrize("size", ["tiny", "small", "base_plus", "large"])
def test_metas_networks(version: str, size: str) -> None:
    yaml = meta_yaml(version, size)
    found = recognised(tensors_by(yaml))
    assert found is not None
    assert found.name == f"{'SAM 2.1' if version == 'sam2.1' else 'SAM 2.0'} {size}"
    assert found.config_path == yaml


@pytest.mark.parametrize("front", ["", "module.", "model.network.", "_orig_mod.sam."])
def test_whatever_stands_before_the_names(nano, front: str) -> None:
    found = recognised({front + name: value for name, value in nano.items()})
    assert found is not None
    assert found.config_path == NANO


def test_networks_that_cannot_be_read_are_named(nano) -> None:
    narrower = {**nano, "image_encoder.trunk.patch_embed.proj.weight": torch.empty(20, 3, 7, 7)}
    others = {name: value for name, value in nano.items() if "image_encoder.trunk" not in name}
    first = {"image_encoder.pos_embed": torch.empty(1), "mask_decoder.iou_token.weight": torch.empty(1)}
    told = {
        "a SAM 2.1 of a size of its own": narrower,
        "a tracker with another image encoder, such as EdgeTAM or EfficientTAM": others,
        "a SAM without memory, of before SAM 2": first,
    }
    for name, state in told.items():
        found = recognised(state)
        assert found is not None
        assert str(found) == name
        assert found.config_path is None
    assert recognised({"weight": torch.empty(1)}) is None
