"""Modules in place of SAM 2's: the same parameters, results and gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.transformer import RoPEAttention
from torch.utils.flop_counter import FlopCounterMode

from sam2vt.core.model.replacements import replace_modules
from sam2vt.core.model.tracking.memory_layers import RotaryAttention

from .conftest import make_clips, nano_model


def attentions(**settings) -> tuple[RoPEAttention, RoPEAttention]:
    torch.manual_seed(0)
    stock = RoPEAttention(embedding_dim=32, num_heads=1, feat_sizes=(4, 4), **settings)
    ours = copy.deepcopy(stock)
    replace_modules(ours)
    assert type(ours) is RotaryAttention
    assert ours.state_dict().keys() == stock.state_dict().keys()
    return stock, ours


@pytest.mark.parametrize("side", [4, 6])
@pytest.mark.parametrize(("frames", "pointers"), [(1, 0), (3, 0), (3, 8)])
def test_rotary_attention(side: int, frames: int, pointers: int) -> None:
    stock, ours = attentions(rope_k_repeat=True, kv_in_dim=8)
    query = torch.randn(2, side**2, 32)
    key, value = (torch.randn(2, frames * side**2 + pointers, 8, requires_grad=True) for _ in range(2))
    found = []
    for module in (stock, ours):
        result = module(query, key, value, num_k_exclude_rope=pointers)
        trained = [key, value, *module.parameters()]
        found.append((result, *torch.autograd.grad(result.square().sum(), trained)))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_dropout_only_while_training() -> None:
    stock, ours = attentions(dropout=0.5)
    x = torch.randn(1, 16, 32)
    assert not torch.equal(ours(x, x, x), ours(x, x, x))
    torch.testing.assert_close(ours.eval()(x, x, x), stock.eval()(x, x, x))


def test_position_codes_are_shared_by_all_images() -> None:
    stock = PositionEmbeddingSine(num_pos_feats=16)
    ours = copy.deepcopy(stock)
    replace_modules(ours)
    images = torch.zeros(3, 16, 4, 6)
    for _ in range(2):  # the second time from its cache
        assert torch.equal(ours(images), stock(images))
        assert ours(images).untyped_storage().nbytes() < stock(images).untyped_storage().nbytes()


def kept_bytes(model, images: torch.Tensor) -> int:
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model.encode(images)
    return sum(storage.nbytes() for storage in kept.values())


def test_an_encoder_that_trains_keeps_less_at_the_same_cost(monkeypatch) -> None:
    images = make_clips(1, 2, 1)[0].flatten(0, 1)
    ours = nano_model().train()
    monkeypatch.setattr("sam2vt.core.model.replacements.replace_modules", lambda network: None)
    stock = nano_model().train()
    assert kept_bytes(ours, images) < 0.8 * kept_bytes(stock, images)
    flops = []
    for model in (ours, stock):
        with FlopCounterMode(display=False) as counted:
            sum(level.sum() for level in model.encode(images).levels).backward()
        flops.append(counted.get_total_flops())
    assert flops[0] <= flops[1]  # what is made again in backward holds no product
