"""What a file of weights is, by its tensors alone."""

from __future__ import annotations

import pytest
import torch

from sam2vt.core.model.build import build_network, network_config
from sam2vt.core.model.network_yaml import meta_yaml
from sam2vt.core.model.relatives import recognised

NANO = "network/sam2.1_nano.yaml"


def state_of(yaml: str) -> dict[str, torch.Tensor]:
    """The names and shapes of a network's tensors, without values."""
    with torch.device("meta"):
        return dict(build_network(network_config(yaml, 256)).state_dict())


@pytest.mark.parametrize("version", ["sam2", "sam2.1"])
@pytest.mark.parametrize("size", ["tiny", "small", "base_plus", "large"])
def test_metas_networks(version: str, size: str) -> None:
    found = recognised(state_of(meta_yaml(version, size)))
    assert found is not None
    assert found.name == f"{'SAM 2.1' if version == 'sam2.1' else 'SAM 2.0'} {size}"
    assert found.config_path == meta_yaml(version, size)


@pytest.mark.parametrize("front", ["", "module.", "model.network.", "_orig_mod.sam."])
def test_whatever_stands_before_the_names(front: str) -> None:
    found = recognised({front + name: value for name, value in state_of(NANO).items()})
    assert found is not None
    assert found.config_path == NANO


def test_networks_that_cannot_be_read_are_named() -> None:
    known = state_of(NANO)
    narrower = {**known, "image_encoder.trunk.patch_embed.proj.weight": torch.empty(20, 3, 7, 7)}
    others = {name: value for name, value in known.items() if "image_encoder.trunk" not in name}
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
