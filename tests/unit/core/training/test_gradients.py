from __future__ import annotations

import pytest
import torch
from torch import nn

from sam2vt.core.training import gradients
from sam2vt.core.training.gradients import clip_gradients, gradient_norm, updated_by


@pytest.fixture(params=[True, False], ids=["apart", "torch 2.5"])
def apart(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "_APART", request.param and gradients._APART)


def layer(*gradient: float) -> nn.Linear:
    module = nn.Linear(2, 1)
    module.weight.grad = torch.tensor([[gradient[0], 0.0]])
    module.bias.grad = torch.tensor([gradient[1]])
    return module


def test_the_norm_leaves_the_gradients_as_they_are(apart: None) -> None:
    assert gradient_norm(list(nn.Linear(2, 1).parameters())) == 0
    module = layer(3.0, 4.0)
    assert gradient_norm(list(module.parameters())) == 5
    assert module.weight.grad.tolist() == [[3.0, 0.0]]


@pytest.mark.parametrize("limit", [0.1, 100.0])
def test_clipping_by_a_known_norm_is_pytorchs_own(apart: None, limit: float) -> None:
    ours, plain = layer(3.0, 4.0), layer(3.0, 4.0)
    parameters = updated_by(torch.optim.SGD(ours.parameters()))
    clip_gradients(parameters, limit, gradient_norm(parameters))
    nn.utils.clip_grad_norm_(plain.parameters(), limit)
    for one, other in zip(ours.parameters(), plain.parameters()):
        assert torch.equal(one.grad, other.grad)
