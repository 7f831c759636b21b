"""Run the network on a device, with activation checkpointing and compiled parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch.utils.checkpoint import checkpoint

from sam2vt.config import ModelConfig, TrainerConfig
from sam2vt.errors import ConfigError
from sam2vt.settings import require

Result = TypeVar("Result")

# The names in `model.compile`, and where SAM 2's network holds these parts.
PARTS = {
    "image_encoder": "image_encoder",
    "memory_attention": "memory_attention",
    "memory_encoder": "memory_encoder",
    "mask_decoder": "sam_mask_decoder",
}
# Of `trainer.precision`; 32-true needs no autocast.
_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
OPTIONS: dict[str, Any] = {}  # further options of torch.compile; tests put a compiler of their own here


def resolve_device(device: str) -> torch.device:
    """Return the torch device of "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises ConfigError for an unknown device, and for a GPU on a machine without one.
    """
    require(ModelConfig, "device", device, "model.device")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    target = torch.device(device)
    if target.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"model.device: {device!r} was asked for, but no GPU is usable here; use cpu or auto"
        )
    return target


def autocast(precision: str, device: str) -> AbstractContextManager[Any]:
    """Return the autocast context of a `trainer.precision` on this type of device."""
    dtype = _AUTOCAST.get(precision)
    return torch.autocast(device, dtype, enabled=dtype is not None)


def require_precision(precision: str, device: torch.device) -> None:
    """Raise ConfigError for a precision that is unknown, or impossible for inference on this device."""
    require(TrainerConfig, "precision", precision)
    if precision == "16-mixed" and device.type == "cpu":
        raise ConfigError(
            "precision='16-mixed': fp16 needs a GPU, the model is on cpu; use bf16-mixed or 32-true"
        )
    is_old = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "bf16-mixed" and is_old:
        raise ConfigError(
            f"precision='bf16-mixed': {torch.cuda.get_device_name(device)} has no bf16; use 16-mixed or "
            f"32-true"
        )


def recomputed(wanted: bool, function: Callable[..., Result], *inputs: object, draws: bool = True) -> Result:
    """Return `function(*inputs)`; if `wanted`, store only its inputs and recompute it in the backward pass.

    With `draws` the recomputation repeats random numbers such as dropout's. Saving and restoring the
    generator's state costs time, so pass False for functions that draw none.
    """
    # Without a gradient there is no backward pass, and checkpoint() would only add its overhead.
    if wanted and torch.is_grad_enabled():
        return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=draws)
    return function(*inputs)


def compile_parts(
    network: Any, parts: Sequence[str], device: torch.device, cuda_graphs: bool = False
) -> None:
    """Let torch.compile compile each of these parts at its first call.

    Parts are compiled in place, so names of weights stay. The code between the parts is not compiled.
    Raises ConfigError if compiling cannot work on this machine.
    """
    if cuda_graphs and device.type != "cuda":
        raise ConfigError(
            f"model.cuda_graphs: needs a CUDA GPU, and the model is on {device}; set it to false"
        )
    _try_compiler(device)
    _fill_position_caches(network, device)
    options = {**OPTIONS, "mode": "reduce-overhead"} if cuda_graphs else OPTIONS
    for part in parts:
        network.get_submodule(PARTS[part]).compile(**options)


def running(compiled: bool, cuda_graphs: bool = False) -> AbstractContextManager[Any]:
    """Return a context in which compiled parts run compiled, or eagerly.

    Validation runs eagerly: it tracks whole videos of any number of objects, and every new shape would be
    compiled again.
    """
    if not compiled:
        return torch.compiler.set_stance("force_eager")
    if cuda_graphs:  # tells PyTorch that the outputs of the step before may be overwritten
        torch.compiler.cudagraph_mark_step_begin()
    return nullcontext()


def _fill_position_caches(network: Any, device: torch.device) -> None:
    """SAM 2 caches position codes by size; a code that is added later makes a part compile again."""
    from sam2.modeling.position_encoding import PositionEmbeddingSine

    for module in network.modules():
        if isinstance(module, PositionEmbeddingSine):
            for stride in (4, 8, 16, 32):
                side = network.image_size // stride
                module(torch.empty(1, 1, side, side, device=device))


def _try_compiler(device: torch.device) -> None:
    """Compile a small kernel: that needs a C++ compiler on a CPU, Triton on a GPU, and Python's headers."""
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
