from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sam2vt.core.model import products


@pytest.fixture(autouse=True)
def slow_mkl(monkeypatch) -> None:
    """As on an AMD processor with AVX-512: what is computed is the same anywhere."""
    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)


class Called(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def layers(inputs: int, outputs: int, bias: bool = True) -> tuple[products.Linear, nn.Linear]:
    torch.manual_seed(0)
    ours, theirs = products.Linear(inputs, outputs, bias), nn.Linear(inputs, outputs, bias)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def names_called(layer: nn.Module, x: torch.Tensor) -> set[str]:
    with Called() as called:
        layer(x)
    return called.names


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(512, 192), (3, 256, 192), (4, 16, 16, 192)])
def test_equal_to_pytorchs(shape, bias) -> None:
    ours, theirs = layers(192, 256, bias)
    values = torch.randn(shape)
    found = []
    for layer in (ours, theirs):
        x = values.clone().requires_grad_()
        y = layer(x)
        (y * torch.arange(256).cos()).sum().backward()
        found.append([y, x.grad, *(parameter.grad for parameter in layer.parameters())])
    assert "convolution" in names_called(ours, values)
    for mine, other in zip(*found, strict=True):
        assert mine.shape == other.shape
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5 * float(other.detach().abs().max()))


def test_the_rows_may_lie_anyhow() -> None:
    ours, theirs = layers(192, 256)
    x = torch.randn(192, 2, 256).permute(1, 2, 0)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(512, 16),  # too little work
        torch.ones(16, 256),  # too few rows
        torch.ones(513, 256),  # not divisible
        torch.ones(512, 256, dtype=torch.float64),
        torch.ones(512, 256, device="meta"),
        torch.ones(0, 256),
    ],
    ids=["little work", "few rows", "odd rows", "float64", "no CPU", "no rows"],
)
def test_other_products_stay_pytorchs(x) -> None:
    layer = products.Linear(x.shape[-1], 256, device=x.device, dtype=x.dtype)
    assert "convolution" not in names_called(layer, x)


def test_autocast_stays_pytorchs() -> None:
    layer = products.Linear(256, 256)
    with torch.autocast("cpu", torch.bfloat16):
        assert "convolution" not in names_called(layer, torch.ones(512, 256))
        assert layer(torch.ones(512, 256)).dtype == torch.bfloat16


def test_other_processors_stay_pytorchs(monkeypatch) -> None:
    monkeypatch.setattr(products, "mkl_is_slow", lambda: False)
    assert "convolution" not in names_called(products.Linear(256, 256), torch.ones(512, 256))


@pytest.mark.parametrize(
    ("capability", "vendor", "expected"),
    [("AVX512", "AuthenticAMD", True), ("AVX2", "AuthenticAMD", False), ("AVX512", "GenuineIntel", False)],
)
def test_which_processors(monkeypatch, capability, vendor, expected) -> None:
    monkeypatch.undo()  # the whole of it, as it is
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(products, "_processor", lambda: f"vendor_id\t: {vendor}\n")
    assert products.mkl_is_slow.__wrapped__() == (expected and torch.backends.mkldnn.is_available())
