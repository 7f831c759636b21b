"""Dropout from few draws: as likely, with the same mean and gradient as PyTorch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from sam2.modeling.sam.transformer import RoPEAttention

from sam2vt.core.model.speedups import dropout as module
from sam2vt.core.model.speedups.dropout import attend, dropout, relu_dropout

from ..conftest import nano_model

SIZE = 100_003  # no multiple of the values that a draw decides


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_as_many_are_dropped_and_the_mean_stays(probability: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    result = dropout(torch.ones(SIZE, dtype=dtype), probability)
    assert result.dtype == dtype
    dropped = (result == 0).double().mean().item()
    assert dropped == pytest.approx(probability, abs=5 * (probability * (1 - probability) / SIZE) ** 0.5)
    rest = result[result != 0]
    assert (rest == rest[0]).all()
    assert float(rest[0]) == pytest.approx(
        1 / (1 - probability), rel=1e-2 if dtype == torch.bfloat16 else 1e-4
    )


def test_neighbours_and_calls_are_independent() -> None:
    torch.manual_seed(0)
    first, second = (dropout(torch.ones(SIZE), 0.5) / 2 for _ in range(2))
    for one, other in [(first[:-1], first[1:]), (first[:-4], first[4:]), (first, second)]:
        together = (one * other).mean().item()
        assert together == pytest.approx(0.25, abs=5 * (0.1875 / SIZE) ** 0.5)


def test_draws_follow_from_the_seed() -> None:
    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return dropout(torch.ones(64), 0.5)

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_gradient_of_what_was_kept(probability: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 500, dtype=torch.float64, requires_grad=True)
    result = relu_dropout(x, probability)
    scale = float((result.detach() / x.detach())[result > 0][0])
    assert scale == pytest.approx(1 / (1 - probability), rel=1e-4)
    (gradient,) = torch.autograd.grad((result * result.cos()).sum(), x)
    kept = x.relu() * (result > 0) * scale
    (expected,) = torch.autograd.grad((kept * kept.cos()).sum(), x)
    torch.testing.assert_close(gradient, expected)


def test_relu_and_dropout_keep_their_result_alone() -> None:
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        result = relu_dropout(torch.randn(8, 8, requires_grad=True), 0.1)
    assert [each.data_ptr() for each in kept] == [result.data_ptr()]


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_pytorchs_where_all_weights_are_kept(masked: bool, monkeypatch) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 1, n, 16, dtype=torch.float64) for n in (5, 7, 7))
    mask = torch.arange(7).unsqueeze(0) < 5 if masked else None
    expected = F.scaled_dot_product_attention(query, key, value, mask)
    torch.testing.assert_close(attend(query, key, value, 0.0, mask), expected)
    monkeypatch.setattr(module, "dropout", lambda x, probability: x)
    torch.testing.assert_close(attend(query, key, value, 0.1, mask), expected)


def test_attention_drops_weights_and_its_mean_stays() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 1, n, 8, dtype=torch.float64) for n in (3, 6, 6))
    expected = F.scaled_dot_product_attention(query, key, value)
    draws = attend(*(x.expand(20_000, -1, -1, -1) for x in (query, key, value)), 0.2)
    spread = draws.std(0) / len(draws) ** 0.5
    assert (spread > 0).all()
    assert ((draws.mean(0) - expected[0]).abs() < 5 * spread + 1e-4).all()


def test_other_devices_draw_as_pytorch_does() -> None:
    x = torch.ones(4, 4, device="meta")
    assert dropout(x, 0.1).shape == attend(x[None, None], x[None, None], x[None, None], 0.1)[0, 0].shape


@pytest.mark.parametrize(("given", "expected"), [(None, 0.0), (0.25, 0.25)])
def test_the_memory_attention_has_the_dropout_of_the_configuration(given, expected) -> None:
    attention = nano_model(memory_dropout=given).network.memory_attention
    found = {each.p for each in attention.modules() if isinstance(each, torch.nn.Dropout)}
    found |= {each.dropout_p for each in attention.modules() if isinstance(each, RoPEAttention)}
    assert found == {expected}  # the nano network has none of its own


def test_compiled_draws_are_as_likely_and_reach_the_gradient() -> None:
    """Calls before the backward pass, as the frames of a clip make them: each keeps its own draws."""

    def run(x: torch.Tensor, value: torch.Tensor) -> list[torch.Tensor]:
        keys = value.tanh().detach()
        return [dropout(x, 0.5), relu_dropout(x, 0.5), attend(keys, keys, value, 0.5)]

    torch.compiler.reset()
    compiled = torch.compile(run, fullgraph=True)
    torch.manual_seed(0)
    inputs = [torch.rand(SIZE) + 0.5, torch.randn(2, 1, 16, 16)]
    calls = []
    for _ in range(2):
        x, value = (each.clone().requires_grad_() for each in inputs)
        calls.append((x, value, compiled(x, value)))
    weights = [torch.randn(each.shape) for each in calls[0][2]]
    for x, value, results in calls[::-1]:
        # Each function is linear in what it is derived by: the input times the gradient is the result.
        for result, weight in zip(results[:2], weights):
            (gradient,) = torch.autograd.grad((result * weight).sum(), x, retain_graph=True)
            torch.testing.assert_close(x * gradient, result * weight)
        (gradient,) = torch.autograd.grad((results[2] * weights[2]).sum(), value)
        torch.testing.assert_close((value * gradient).sum(), (results[2] * weights[2]).sum())
    drawn = [(result != 0).float() for _, _, results in calls for result in results[:2]]
    pairs = [(drawn[0], each) for each in drawn[1:]] + [(drawn[0][:-1], drawn[0][1:])]
    for one, other in pairs:  # functions, calls and neighbours draw independently
        together = (one * other).mean().item()
        assert together == pytest.approx(0.25, abs=5 * (0.1875 / SIZE) ** 0.5)
    torch.compiler.reset()
