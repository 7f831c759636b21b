"""The image encoder without work on padding, against SAM 2's own blocks."""

from __future__ import annotations

import copy

import pytest
import torch
from sam2.modeling.backbones.hieradet import Hiera, MultiScaleBlock
from sam2.modeling.backbones.image_encoder import FpnNeck
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sam2vt.core.model.build import replace_modules, replacements
from sam2vt.core.model.encoder_blocks import UnpaddedBlock
from sam2vt.core.model.speedups.windows import SharedPaddingBlock

from .conftest import Kept, make_clips, nano_model

BLOCKS = {"auto": SharedPaddingBlock, "none": UnpaddedBlock}
# Maps of 16, 8, 4 and 2 tokens a side: windows of 14 and 7 divide none of theirs.
STAGES = {"embed_dim": 16, "stages": (1, 2, 2, 2), "global_att_blocks": (4,), "drop_path_rate": 0.0}


def encoders(speedups: str = "auto", **settings) -> tuple[Hiera, Hiera]:
    """SAM 2's encoder with biases that are not zero, and the same without padding."""
    torch.manual_seed(0)
    stock = Hiera(**{**STAGES, **settings})
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    ours = copy.deepcopy(stock)
    replace_modules(ours, replacements(speedups))
    return stock, ours


def outputs_and_gradients(encoder: Hiera, images: torch.Tensor):
    features = encoder(images)
    sum((level * level.cos()).sum() for level in features).backward()
    return features, {name: parameter.grad for name, parameter in encoder.named_parameters()}


@pytest.mark.parametrize("size", [64, 96, 160])
@pytest.mark.parametrize("windows", [(8, 4, 14, 7), (8, 4, 6, 3)])
@pytest.mark.parametrize("speedups", ["auto", "none"])
def test_features_and_gradients_are_the_same(size: int, windows, speedups: str) -> None:
    stock, ours = encoders(speedups, window_spec=windows)
    images = torch.randn(2, 3, size, size)
    theirs, their_gradients = outputs_and_gradients(stock, images)
    features, gradients = outputs_and_gradients(ours, images)
    for level, expected in zip(features, theirs):
        assert_near(level, expected)
    for name, gradient in gradients.items():
        assert_near(gradient, their_gradients[name], name)


def assert_near(found: torch.Tensor, expected: torch.Tensor, what: str = "features") -> None:
    """Measured by the largest value: one near 0 is a difference of large ones, and rounds as they do."""
    worst = float((found - expected).detach().abs().max())
    assert worst <= 1e-5 * max(1.0, float(expected.detach().abs().max())), what


class LowRank(nn.Module):
    """A projection with an adapter as libraries wrap it: `weight` and `bias` are the frozen layer's."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down, self.up = nn.Linear(base.in_features, 2, False), nn.Linear(2, base.out_features, False)

    @property
    def weight(self) -> torch.Tensor:
        return self.base.weight

    @property
    def bias(self) -> torch.Tensor:
        return self.base.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.up(self.down(x))


@pytest.mark.parametrize("speedups", ["auto", "none"])
def test_a_wrapped_projection_gets_its_gradient(speedups: str) -> None:
    stock, ours = encoders(speedups)
    torch.manual_seed(1)
    for ours_block, block in zip(ours.blocks, stock.blocks):
        block.attn.qkv = LowRank(block.attn.qkv)
        ours_block.attn.qkv = copy.deepcopy(block.attn.qkv)
    images = torch.randn(1, 3, 64, 64)
    theirs, their_gradients = outputs_and_gradients(stock, images)
    features, gradients = outputs_and_gradients(ours, images)
    for level, expected in zip(features, theirs):
        assert_near(level, expected)
    adapted = [name for name in gradients if ".down." in name or ".up." in name]
    assert len(adapted) == 2 * len(stock.blocks)
    for name in adapted:
        assert gradients[name].any(), name
        assert_near(gradients[name], their_gradients[name], name)


def flops(encoder: Hiera, size: int) -> int:
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        encoder(torch.zeros(1, 3, size, size))
    return counted.get_total_flops()


@pytest.mark.parametrize("speedups", ["auto", "none"])
def test_linear_layers_see_no_padding(speedups: str) -> None:
    stock, ours = encoders(speedups)
    # Windows divide every map at 448 px: there is nothing to leave out.
    assert flops(ours, 448) == flops(stock, 448)
    assert flops(ours, 64) < 0.7 * flops(stock, 64)


@pytest.mark.parametrize("speedups", ["auto", "none"])
def test_a_built_network_has_such_blocks_under_the_names_of_sam2(speedups: str) -> None:
    network = nano_model(speedups=speedups).network
    blocks = list(network.image_encoder.trunk.blocks)
    assert {type(block) for block in blocks} == {BLOCKS[speedups]}
    assert not any(type(module) is MultiScaleBlock for module in network.modules())
    assert "image_encoder.trunk.blocks.0.attn.qkv.weight" in network.state_dict()


def kept_bytes(model, images: torch.Tensor) -> int:
    kept = Kept(model)
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda x: x):
        model.encode(images)
    return kept.num_bytes


def test_an_encoder_that_trains_keeps_less_at_the_same_cost(monkeypatch) -> None:
    images = make_clips(1, 2, 1)[0].flatten(0, 1)
    ours = nano_model().train()
    monkeypatch.setattr("sam2vt.core.model.build.replace_modules", lambda network, classes: None)
    stock = nano_model().train()
    assert kept_bytes(ours, images) < 0.9 * kept_bytes(stock, images)
    flops = []
    for model in (ours, stock):
        with FlopCounterMode(display=False) as counted:
            sum(level.sum() for level in model.encode(images).levels).backward()
        flops.append(counted.get_total_flops())
    assert flops[0] <= flops[1]  # what is made again in backward holds no product


@pytest.mark.parametrize("levels", [[2, 3], [0, 1, 2, 3], []])
@pytest.mark.parametrize("how", [{"fpn_interp_model": "nearest"}, {"fuse_type": "avg"}])
def test_the_neck_maps_as_sam_2s_without_position_codes(how: dict, levels: list[int]) -> None:
    channels = [32, 16, 8, 4]
    stock = FpnNeck(nn.Identity(), 16, channels, fpn_top_down_levels=levels, **how)
    ours = copy.deepcopy(stock)
    replace_modules(ours, replacements())
    ours.position_encoding = None
    maps = [torch.randn(2, width, side, side) for width, side in zip(channels[::-1], (16, 8, 4, 2))]
    for level, other in zip(ours(maps)[0], stock(maps)[0], strict=True):
        assert torch.equal(level, other)
