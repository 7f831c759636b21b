from __future__ import annotations

import pytest
import torch
from sam2.modeling.backbones.hieradet import do_pool

from sam2vt.core.model.speedups.image_encoder import max_pool


@pytest.mark.parametrize("ties", [False, True])
def test_values_and_gradients_are_pytorchs(ties: bool) -> None:
    torch.manual_seed(0)
    maps = torch.randint(0, 3, (2, 6, 8, 5)).double() if ties else torch.randn(2, 6, 8, 5).double()
    maps.requires_grad_()
    ours, theirs = max_pool(maps), do_pool(maps, torch.nn.MaxPool2d(2, 2))
    assert torch.equal(ours, theirs)
    weights = torch.randn_like(ours)
    (gradient,) = torch.autograd.grad((ours * weights).sum(), maps)
    (expected,) = torch.autograd.grad((theirs * weights).sum(), maps)
    assert torch.equal(gradient, expected)


def test_a_value_that_is_no_number_is_not_passed_over() -> None:
    maps = torch.zeros(1, 2, 2, 1)
    maps[0, 1, 0] = float("nan")
    assert max_pool(maps).isnan().all()


def test_a_byte_a_result_is_kept() -> None:
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        result = max_pool(torch.randn(1, 8, 8, 4, requires_grad=True))
    assert sum(each.untyped_storage().nbytes() for each in kept) == result.numel()
