"""Parts of the network compiled by torch.compile, each for itself; the code between them stays as it is.

A part is compiled in place at its first call, so that names of weights and checkpoints stay. Only steps of
training run compiled: validation tracks whole videos of any number of objects, each a shape of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from sam2vt.errors import ConfigError

# Names of the configuration, and where SAM 2's network holds them.
PARTS = {
    "image_encoder": "image_encoder",
    "memory_attention": "memory_attention",
    "memory_encoder": "memory_encoder",
    "mask_decoder": "sam_mask_decoder",
}
OPTIONS: dict[str, Any] = {}  # further ones of torch.compile; where tests put a compiler of their own


def compile_parts(
    network: Any, parts: Sequence[str], device: torch.device, cuda_graphs: bool = False
) -> None:
    """Let these parts be compiled when they are first called; ConfigError where that cannot work here."""
    if cuda_graphs and device.type != "cuda":
        raise ConfigError(
            f"model.cuda_graphs: needs a CUDA GPU, and the model is on {device}; set it to false"
        )
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ConfigError(f"model.compile: got {', '.join(unknown)}; allowed are {', '.join(PARTS)}")
    _try_compiler(device)
    _make_position_codes(network, device)
    options = {**OPTIONS, "mode": "reduce-overhead"} if cuda_graphs else OPTIONS
    for part in parts:
        network.get_submodule(PARTS[part]).compile(**options)


def _make_position_codes(network: Any, device: torch.device) -> None:
    """SAM 2 keeps them by size; where they come later, a part is compiled again."""
    from sam2.modeling.position_encoding import PositionEmbeddingSine

    for module in network.modules():
        if isinstance(module, PositionEmbeddingSine):
            for stride in (4, 8, 16, 32):
                side = network.image_size // stride
                module(torch.empty(1, 1, side, side, device=device))


def running(compiled: bool, cuda_graphs: bool = False) -> AbstractContextManager[Any]:
    """Within it compiled parts run as such, or as if they were not."""
    if not compiled:
        return torch.compiler.set_stance("force_eager")
    if cuda_graphs:  # what they gave a step before may be written over now
        torch.compiler.cudagraph_mark_step_begin()
    return nullcontext()


def check_padding(network: Any) -> None:
    """ConfigError where the memory attention cannot leave out what only fills its memory up."""
    from sam2vt.core.model.tracking.memory_layers import RotaryAttention

    for layer in network.memory_attention.layers:
        if not isinstance(layer.cross_attn_image, RotaryAttention):
            raise ConfigError(
                f"model.pad_memory: needs RoPEAttention as the network's cross_attention, it has "
                f"{type(layer.cross_attn_image).__name__}; set it to false"
            )


def _try_compiler(device: torch.device) -> None:
    """A first small kernel: it needs the C++ compiler on a CPU, Triton on a GPU, and Python's headers."""
    if not hasattr(torch.compiler, "set_stance"):
        raise ConfigError(
            f"model.compile: needs torch 2.6 or later, this is {torch.__version__}; set it to []"
        )
    try:
        torch.compile(lambda x: x.exp() + 1)(torch.zeros(64, device=device))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"model.compile: torch.compile does not work here: {reason or type(error).__name__}. "
            f"Install {'a C++ compiler (g++ or clang++)' if device.type == 'cpu' else 'Triton and gcc'}, "
            f"or set model.compile=[]"
        ) from error
