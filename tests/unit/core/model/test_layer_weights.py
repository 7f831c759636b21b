"""What a layer does apart from its forward pass, and that nobody asks for it elsewhere."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

from sam2vt.core import model
from sam2vt.core.model.layer_weights import bias_of, weight_and_bias

FOLDER = Path(model.__file__).parent


def test_a_bias_is_the_output_for_zeros() -> None:
    layer = nn.Linear(3, 5)
    assert torch.equal(bias_of(layer, torch.randn(2, 4, 3)), layer.bias)
    assert torch.equal(bias_of(nn.Linear(3, 5, bias=False), torch.randn(3)), torch.zeros(5))


@pytest.mark.parametrize("bias", [True, False])
def test_weight_and_bias_are_those_of_the_convolution(bias: bool) -> None:
    layer = nn.Conv2d(3, 5, 1, bias=bias)
    weight, added = weight_and_bias(layer, 3)
    assert weight.dtype == torch.float64
    torch.testing.assert_close(weight.float(), layer.weight.flatten(1))
    torch.testing.assert_close(added.float(), layer.bias if bias else torch.zeros(5))
    assert next(layer.parameters()).dtype == torch.float32


def test_a_wrapped_layer_answers_for_its_adapter() -> None:
    wrapped = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1))
    weight, added = weight_and_bias(wrapped, 3)
    x = torch.randn(1, 3, 2, 2)
    expected = torch.einsum("oi,bihw->bohw", weight.float(), x) + added.float()[:, None, None]
    torch.testing.assert_close(wrapped(x), expected)


def test_nobody_else_reads_weights() -> None:
    found = [
        f"{file.relative_to(FOLDER)}:{node.lineno}"
        for file in sorted(FOLDER.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("weight", "bias")
    ]
    assert found == []
