"""Linear layers whose matrix products oneDNN takes on an AMD processor with AVX-512.

PyTorch gives float32 products of a CPU to MKL, which leaves AVX-512 unused on AMD's processors. A convolution
with a kernel of one place is the same product and goes to oneDNN, which uses it: up to twice as fast.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# From so much on the gain exceeds the cost of a few more views.
WORTH_FLOPS, WORTH_ROWS = 1 << 24, 256
# PyTorch leaves convolutions of fewer images to MKL, unless it has several threads.
IMAGES = 16


class Linear(nn.Linear):
    """[..., C] to [..., C']."""

    def forward(self, x: Tensor) -> Tensor:
        recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()  # for other numbers of rows, too
        if recorded or not by_onednn(x, self.weight):
            return super().forward(x)
        return _convolve(x, self.weight, self.bias)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Rows as the places of IMAGES images, channels last."""
    images = x.reshape(IMAGES, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
    found = F.conv2d(images, weight[:, :, None, None], bias)
    return found.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


def by_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether the product of x [..., C] with a weight [C', C] is faster as a convolution."""
    is_float = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    if not is_float or x.shape[-1] != weight.shape[1] or not x.shape[-1]:
        return False
    rows = x.numel() // x.shape[-1]
    enough = rows >= WORTH_ROWS and 2 * rows * weight.numel() >= WORTH_FLOPS
    usable = bool(torch.backends.mkldnn.enabled) and not torch.is_autocast_enabled("cpu")
    return enough and rows % IMAGES == 0 and usable and mkl_is_slow()


@functools.cache
def mkl_is_slow() -> bool:
    """Whether this is an AMD processor with AVX-512, and PyTorch has oneDNN."""
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and torch.backends.mkldnn.is_available() and "AuthenticAMD" in _processor()


def _processor() -> str:
    """What Linux says about it; elsewhere nothing is known."""
    try:
        return Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ""
