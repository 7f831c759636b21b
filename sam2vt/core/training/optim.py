"""Build optimizers and schedules, clip gradients, and freeze heads that no term of the loss trains."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from sam2vt.config import LossConfig, OptimizerConfig, SchedulerConfig
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.training.loss_terms.terms import TERMS
from sam2vt.errors import ConfigError
from sam2vt.settings import require

log = logging.getLogger(__name__)

ENCODER = "image_encoder."
_BLOCK = re.compile(r"^image_encoder\.trunk\.blocks\.(\d+)\.")
_PATCHES = "image_encoder.trunk.patch_embed."

# From torch 2.6 on the norm and the clipping are functions of their own.
_HAS_SEPARATE_NORM = hasattr(nn.utils, "get_total_norm") and hasattr(nn.utils, "clip_grads_with_norm_")

Curve = Callable[[int], float]


def freeze_unreached_heads(model: SAM2Model, loss: LossConfig) -> list[str]:
    """Freeze the heads that no active loss term trains; return the names of their parameters.

    If they were trainable, they would get no gradient, and DistributedDataParallel would wait for it forever.
    Raises ConfigError if nothing is left to train.
    """
    heads = {f"{name}_weight": term.head for name, term in TERMS.items() if term.head is not None}
    frozen = []
    for weight, head in heads.items():
        if getattr(loss, weight) > 0:
            continue
        for name, parameter in model.network.named_parameters():
            if name.startswith(f"{head}.") and parameter.requires_grad:
                parameter.requires_grad_(False)
                frozen.append(name)
        log.info("loss.%s is 0: %s does not train", weight, head)
    if not model.count_trainable_parameters():
        raise ConfigError(
            f"model.trainable_modules={list(model.trainable_modules or [])} with "
            f"{', '.join(f'loss.{name}={getattr(loss, name)}' for name in heads)} leaves nothing to train: "
            f"a head trains only where its loss term has a weight; name more modules or raise one"
        )
    model.train(model.training)  # frozen parts go to eval mode
    return frozen


def build_optimizer(network: nn.Module, config: OptimizerConfig) -> Optimizer:
    """Return the optimizer over the parameters of SAM 2's network that require a gradient.

    Raises ConfigError for an unknown type, and if no parameter trains.
    """
    groups = parameter_groups(network, config)
    if not groups:
        raise ConfigError(
            "optimizer: no parameter trains; name parts of the network in model.trainable_modules"
        )
    require(OptimizerConfig, "type", config.type, "optimizer.type")
    optimizer: Any = _OPTIMIZERS[config.type](groups, config)
    # A fused optimizer would unscale fp16 gradients itself. Lightning then refuses to clip them.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def hold_updates(optimizer: Optimizer, held: torch.Tensor) -> bool:
    """Skip each later update during which `held`, a scalar float tensor on the device, is 1.0.

    Weights, moments and step counts then do not change, and the host does not wait for the tensor. For an
    optimizer that is not fused, do nothing and return False: it cannot skip by itself.
    """
    if not all(group.get("fused") for group in optimizer.param_groups):
        return False
    optimizer.found_inf = held  # type: ignore[attr-defined]  # where gradient scaling puts its own flag
    return True


def parameter_groups(network: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Return torch.optim's groups of trainable parameters with one learning rate and weight decay each."""
    num_blocks = 1 + max((_block(name) for name, _ in network.named_parameters()), default=-1)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for module_name, module in network.named_modules():
        for own_name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            name = f"{module_name}.{own_name}" if module_name else own_name
            lr = learning_rate(name, num_blocks, config)
            decay = config.weight_decay if _is_decayed(own_name, parameter, module) else 0.0
            group = groups.setdefault((lr, decay), {"params": [], "lr": lr, "weight_decay": decay})
            group["params"].append(parameter)
    # The fastest group first: it is the one that logs show.
    return [groups[key] for key in sorted(groups, reverse=True)]


def learning_rate(name: str, num_blocks: int, config: OptimizerConfig) -> float:
    """Return the learning rate of a parameter, by its name in SAM 2's network.

    The rate of a trunk block is multiplied by `layer_decay` once for itself and once for each block between
    it and the neck. The patch embedding counts as the block before the first. Position codes keep the full
    rate.
    """
    if not name.startswith(ENCODER):
        return config.lr
    lr = config.lr if config.encoder_lr is None else config.encoder_lr
    block = _block(name)
    if block >= 0:
        return lr * config.layer_decay ** (num_blocks - block)
    return lr * config.layer_decay ** (num_blocks + 1) if name.startswith(_PATCHES) else lr


def build_scheduler(optimizer: Optimizer, config: SchedulerConfig, total_steps: int) -> LRScheduler | None:
    """Return the schedule, to be stepped once per optimizer step; None if it is not enabled.

    Every group follows the same curve times its own learning rate. So `optimizer.lr` ends at `eta_min`, and
    other groups keep their ratio to it. The warm-up is linear and reaches the full rate at its last step;
    then the curve begins. Raises ConfigError for an unknown type, and for a warm-up longer than the run if
    `T_max` is not given.
    """
    require(SchedulerConfig, "type", config.type, "scheduler.type")
    make = _CURVES[config.type]
    if not config.enabled:
        return None
    warmup = config.warmup_steps
    # Imported late: it loads the video decoder, which a step on its own (benchmarks/gpu) does without.
    from sam2vt.core.training.preflight import check_warm_up

    check_warm_up(config, total_steps)
    curve = make(config, (config.T_max or total_steps) - warmup, optimizer.defaults["lr"])

    def factor(step: int) -> float:
        return (step + 1) / warmup if step < warmup else curve(step - warmup)

    return LambdaLR(optimizer, factor)


def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the Euclidean norm of all gradients, a scalar tensor, without changing them."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros((), device=parameters[0].device)
    if _HAS_SEPARATE_NORM:
        return nn.utils.get_total_norm(gradients)
    # An unlimited norm scales by exactly 1.
    return nn.utils.clip_grad_norm_(parameters, float("inf"))


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float, norm: Tensor) -> None:
    """Scale the gradients, whose Euclidean norm is `norm`, to a norm of at most `limit`."""
    if _HAS_SEPARATE_NORM:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    else:
        nn.utils.clip_grad_norm_(parameters, limit)


def parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """Return the parameters that an optimizer updates."""
    # The groups have them at hand; `module.parameters()` would walk through all submodules each step.
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _adam(kind: type[Adam] | type[AdamW]) -> Callable[[list[dict[str, Any]], OptimizerConfig], Optimizer]:
    return lambda groups, config: kind(
        groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=_can_fuse(groups)
    )


def _sgd(groups: list[dict[str, Any]], config: OptimizerConfig) -> Optimizer:
    optimizer = SGD(groups, lr=config.lr, momentum=config.betas[0], fused=_can_fuse(groups))
    if config.betas[0]:
        optimizer.register_step_pre_hook(_begin_momentum)
    return optimizer


def _begin_momentum(optimizer: Optimizer, *_: Any) -> None:
    """Let every momentum begin at 0, which with the first gradient becomes that gradient.

    Some parameters get theirs later than others, as in a part of the network that only some prompts use.
    PyTorch's fused update fails there. Lightning computes gradients within the step: there are none yet.
    """
    for parameter in parameters_of(optimizer):
        state = optimizer.state[parameter]
        if state.get("momentum_buffer") is None:
            state["momentum_buffer"] = torch.zeros_like(parameter)


def _can_fuse(groups: list[dict[str, Any]]) -> bool:
    """Whether PyTorch updates the parameters in one kernel per group, which can also skip an update."""
    return all(p.device.type in ("cpu", "cuda") for group in groups for p in group["params"])


def _cosine(config: SchedulerConfig, length: int, lr: float) -> Curve:
    """Half a cosine from 1 to eta_min / lr over `length` steps; it then stays there."""
    floor = min(1.0, config.eta_min / lr)

    def curve(step: int) -> float:
        share = min(1.0, step / max(1, length))
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * share))

    return curve


def _step(config: SchedulerConfig, length: int, lr: float) -> Curve:
    return lambda step: config.gamma ** (step // config.step_size)


def _constant(config: SchedulerConfig, length: int, lr: float) -> Curve:
    return lambda step: 1.0


_OPTIMIZERS = {"adamw": _adam(AdamW), "adam": _adam(Adam), "sgd": _sgd}
_CURVES = {"cosine": _cosine, "step": _step, "constant": _constant}


def _block(name: str) -> int:
    """The trunk's block that a parameter belongs to, or -1."""
    found = _BLOCK.match(name)
    return int(found.group(1)) if found else -1


def _is_decayed(own_name: str, parameter: nn.Parameter, module: nn.Module) -> bool:
    """Weights of layers are; biases, norms, embeddings and bare codes such as `pos_embed` are not."""
    return parameter.ndim > 1 and own_name.endswith("weight") and not isinstance(module, nn.Embedding)
