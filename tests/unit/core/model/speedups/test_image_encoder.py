"""The image encoder without work on padding, against SAM 2's own blocks."""

from __future__ import annotations

import copy

import pytest
import torch
from sam2.modeling.backbones.hieradet import Hiera, MultiScaleBlock
from torch.utils.flop_counter import FlopCounterMode

from sam2vt.core.model.replacements import replace_modules
from sam2vt.core.model.speedups import image_encoder as image_windows
from sam2vt.core.model.speedups.image_encoder import UnpaddedBlock

from ..conftest import nano_model

# Maps of 16, 8, 4 and 2 tokens a side: windows of 14 and 7 divide none of theirs.
STAGES = {"embed_dim": 16, "stages": (1, 2, 2, 2), "global_att_blocks": (4,), "drop_path_rate": 0.0}
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def encoders(**settings) -> tuple[Hiera, Hiera]:
    """SAM 2's encoder with biases that are not zero, and the same without padding."""
    torch.manual_seed(0)
    stock = Hiera(**{**STAGES, **settings})
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    ours = copy.deepcopy(stock)
    replace_modules(ours)
    return stock, ours


def outputs_and_gradients(encoder: Hiera, images: torch.Tensor):
    features = encoder(images)
    sum((level * level.cos()).sum() for level in features).backward()
    return features, {name: parameter.grad for name, parameter in encoder.named_parameters()}


@pytest.mark.parametrize("size", [64, 96, 160])
@pytest.mark.parametrize("windows", [(8, 4, 14, 7), (8, 4, 6, 3)])
@pytest.mark.parametrize("devices", [("cpu",), ()], ids=["shared", "filled"])
def test_features_and_gradients_are_the_same(size: int, windows, devices, monkeypatch) -> None:
    monkeypatch.setattr(image_windows, "SHARES_FILLED_PLACES", devices)
    stock, ours = encoders(window_spec=windows)
    images = torch.randn(2, 3, size, size)
    theirs, their_gradients = outputs_and_gradients(stock, images)
    features, gradients = outputs_and_gradients(ours, images)
    for level, expected in zip(features, theirs):
        torch.testing.assert_close(level, expected, **TOLERANCE)
    for name, gradient in gradients.items():
        worst = (gradient - their_gradients[name]).abs().max()
        assert worst <= 1e-5 * max(1.0, float(their_gradients[name].abs().max())), name


def flops(encoder: Hiera, size: int) -> int:
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        encoder(torch.zeros(1, 3, size, size))
    return counted.get_total_flops()


def test_linear_layers_see_no_padding() -> None:
    stock, ours = encoders()
    # Windows divide every map at 448 px: there is nothing to leave out.
    assert flops(ours, 448) == flops(stock, 448)
    assert flops(ours, 64) < 0.7 * flops(stock, 64)


def test_attention_sees_the_filled_places_of_a_window_once(monkeypatch) -> None:
    pairs = []
    real = torch.nn.functional.scaled_dot_product_attention

    def counting(query, key, value, **options):
        pairs.append(len(query) * query.shape[2] * key.shape[2])
        return real(query, key, value, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counting)
    block = MultiScaleBlock(16, 16, 2, window_size=14)
    block.__class__ = UnpaddedBlock
    with torch.no_grad():
        block(torch.randn(1, 16, 16, 16))
    assert sum(pairs) == 196 * 196 + 2 * 28 * 29 + 4 * 5  # one for all that fill each smaller window


def test_a_built_network_has_such_blocks_under_the_names_of_sam2() -> None:
    network = nano_model().network
    blocks = list(network.image_encoder.trunk.blocks)
    assert {type(block) for block in blocks} == {UnpaddedBlock}
    assert not any(type(module) is MultiScaleBlock for module in network.modules())
    assert "image_encoder.trunk.blocks.0.attn.qkv.weight" in network.state_dict()
