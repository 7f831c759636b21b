"""SAM 2's rotary attention and ours: the same parameters, results and gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from sam2.modeling.sam.transformer import RoPEAttention

from sam2vt.core.model.build import replace_modules, replacements


def attentions(speedups: str = "auto", **settings) -> tuple[RoPEAttention, RoPEAttention]:
    torch.manual_seed(0)
    stock = RoPEAttention(embedding_dim=32, num_heads=1, feat_sizes=(4, 4), **settings)
    ours = copy.deepcopy(stock)
    replace_modules(ours, replacements(speedups))
    assert type(ours) is not RoPEAttention
    assert ours.state_dict().keys() == stock.state_dict().keys()
    return stock, ours


@pytest.mark.parametrize("speedups", ["auto", "none"])
@pytest.mark.parametrize("side", [4, 6])
@pytest.mark.parametrize(("frames", "pointers"), [(1, 0), (3, 0), (3, 8)])
def test_rotary_attention(side: int, frames: int, pointers: int, speedups: str) -> None:
    stock, ours = attentions(speedups, rope_k_repeat=True, kv_in_dim=8)
    query = torch.randn(2, side**2, 32)
    key, value = (torch.randn(2, frames * side**2 + pointers, 8, requires_grad=True) for _ in range(2))
    found = []
    for module in (stock, ours):
        result = module(query, key, value, num_k_exclude_rope=pointers)
        trained = [key, value, *module.parameters()]
        found.append((result, *torch.autograd.grad(result.square().sum(), trained)))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("speedups", ["auto", "none"])
def test_dropout_only_while_training(speedups: str) -> None:
    stock, ours = attentions(speedups, dropout=0.5)
    x = torch.randn(1, 16, 32)
    assert not torch.equal(ours(x, x, x), ours(x, x, x))
    torch.testing.assert_close(ours.eval()(x, x, x), stock.eval()(x, x, x))
