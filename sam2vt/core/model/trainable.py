"""Choose the trainable parameters by names or glob patterns over module paths."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from sam2vt.errors import ConfigError

log = logging.getLogger(__name__)

SHORT_NAMES = {"mask_decoder": "sam_mask_decoder", "prompt_encoder": "sam_prompt_encoder"}

ADAPTED = ".base_layer."  # where PEFT puts the own parameters of a layer with an adapter
NORMS = "norms"  # stands for the parameters of all normalisations, and all biases

# SAM 2 registers these parameters on the network itself. They train with the module that they serve.
FOLLOWERS = {
    "memory_attention": ("maskmem_tpos_enc", "no_mem_embed", "no_mem_pos_enc"),
    "memory_encoder": ("no_obj_embed_spatial",),
    "sam_mask_decoder": ("no_obj_ptr",),
}
# SAM 2 registers this one too and reads it with no kind of prompt: under DDP it would count as unused.
NEVER_USED = "no_mem_pos_enc"


def select_trainable(network: nn.Module, patterns: Sequence[str], always: Iterable[str] = ()) -> None:
    """Freeze all parameters except for those that the patterns match or that `always` names.

    Raises ConfigError for a pattern that matches nothing.
    """
    chosen = matching_parameters(network, patterns) | set(always)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in chosen)
    log.info("what trains:\n%s", trainable_table(network))


def matching_parameters(network: nn.Module, patterns: Iterable[str]) -> set[str]:
    """Return the names of the parameters that can train and that the patterns match.

    A pattern matches whole module paths ("memory_attention", "image_encoder.trunk.blocks.1?", "*") or
    single parameters. Raises ConfigError, which lists what exists, for a pattern that matches nothing.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        chosen |= _matched(network, pattern)
    return chosen - {NEVER_USED}


def trainable_table(network: nn.Module) -> str:
    """Return one line per top-level part: how many of its parameters train."""
    totals: dict[str, list[int]] = {}
    for name, parameter in network.named_parameters():
        row = totals.setdefault(name.split(".")[0], [0, 0])
        row[0] += parameter.numel() * parameter.requires_grad
        row[1] += parameter.numel()
    width = max(map(len, totals))
    return "\n".join(
        f"  {part:<{width}}  {trained:>12,} of {total:>12,}" for part, (trained, total) in totals.items()
    )


def plain_name(name: str) -> str:
    """Return the name that a parameter has in a network without adapters."""
    return name.replace(ADAPTED, ".")


def modules_that_match(network: nn.Module, pattern: str) -> list[str]:
    """Return the paths of the modules that a name or glob pattern matches."""
    path = SHORT_NAMES.get(pattern, pattern)
    return [name for name, _ in network.named_modules() if name and fnmatchcase(name, path)]


def _matched(network: nn.Module, pattern: str) -> set[str]:
    path = SHORT_NAMES.get(pattern, pattern)
    parameters = [name for name, _ in network.named_parameters()]
    found = {name for name in parameters if fnmatchcase(plain_name(name), path)}
    if pattern == NORMS:
        found |= _norms_and_biases(network)
    for module in modules_that_match(network, pattern):
        found |= {name for name in parameters if name.startswith(f"{module}.")}
        found |= {name for name in FOLLOWERS.get(module, ()) if name in parameters}
    if not found:
        parts = [name for name, child in network.named_children() if any(True for _ in child.parameters())]
        bare = [name for name in parameters if "." not in name]
        raise ConfigError(
            f"model.trainable_modules: {pattern!r} matches no module of the network; it has "
            f"{', '.join(parts)}, the short names {', '.join(SHORT_NAMES)}, {NORMS} (norms and biases), "
            f"the bare parameters {', '.join(bare)}; deeper paths and * ? [] work, such as "
            f"image_encoder.neck or *"
        )
    return found


def _norms_and_biases(network: nn.Module) -> set[str]:
    return {
        f"{path}.{name}"
        for path, module in network.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if name == "bias" or "Norm" in type(module).__name__  # SAM 2 has a LayerNorm2d of its own
    }
