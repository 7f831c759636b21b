"""Narrow memory mixed before it is projected, against SAM 2's attention."""

from __future__ import annotations

import copy

import pytest
import torch
from sam2.modeling.sam.transformer import RoPEAttention

from sam2vt.core.model.build import replace_modules, replacements
from sam2vt.core.model.speedups import narrow_memory


def attentions(**settings) -> tuple[RoPEAttention, RoPEAttention]:
    torch.manual_seed(0)
    stock = RoPEAttention(embedding_dim=32, feat_sizes=(4, 4), rope_k_repeat=True, **settings)
    ours = copy.deepcopy(stock)
    replace_modules(ours, replacements())
    return stock.eval(), ours.eval()


def projected_values(ours: RoPEAttention, *inputs, **options) -> tuple[torch.Tensor, int]:
    """The result, and how many tokens the values' projection has seen."""
    seen: list[int] = []
    handle = ours.v_proj.register_forward_hook(lambda module, given, result: seen.append(given[0].shape[1]))
    with torch.no_grad():
        result = ours(*inputs, **options)
    handle.remove()
    return result, seen[0]


@pytest.mark.parametrize("at_a_time", [1 << 23, 1000, 1])
@pytest.mark.parametrize("pointers", [0, 8])
def test_results_are_those_of_sam_2(pointers: int, at_a_time: int, monkeypatch) -> None:
    monkeypatch.setattr(narrow_memory, "_BYTES", at_a_time)
    stock, ours = attentions(num_heads=1, kv_in_dim=8)
    query, key, value = torch.randn(3, 16, 32), *torch.randn(2, 3, 48 + pointers, 8)
    result, seen = projected_values(ours, query, key, value, num_k_exclude_rope=pointers)
    assert seen == 16
    with torch.no_grad():
        torch.testing.assert_close(result, stock(query, key, value, pointers), rtol=1e-5, atol=1e-5)


def test_hidden_keys_do_not_count() -> None:
    _, ours = attentions(num_heads=1, kv_in_dim=8)
    query, key, value = torch.randn(2, 16, 32), *torch.randn(2, 2, 32, 8)
    mask = torch.arange(32)[None] < 16
    result, seen = projected_values(ours, query, key, value, mask=mask)
    assert seen == 16
    with torch.no_grad():
        torch.testing.assert_close(result, ours(query, key[:, :16], value[:, :16]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("heads", "width"), [(2, 8), (1, 32)])
def test_other_attention_projects_first(heads: int, width: int) -> None:
    stock, ours = attentions(num_heads=heads, kv_in_dim=width)
    query, key, value = torch.randn(2, 16, 32), *torch.randn(2, 2, 48, width)
    result, seen = projected_values(ours, query, key, value)
    assert seen == 48
    with torch.no_grad():
        torch.testing.assert_close(result, stock(query, key, value), rtol=1e-5, atol=1e-5)
