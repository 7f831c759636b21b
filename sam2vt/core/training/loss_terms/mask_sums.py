"""Compute sums over the pixels of masks, from which the mask terms follow.

For each mask, with probability p and target t at a pixel:
    cross_entropy: of t under p;
    focal: the same, weighted by `FOCAL_ALPHA` and by the squared error;
    overlap, area: p t, and p;
    intersection, predicted: pixels with p > 0.5 and t > 0.5, and with p > 0.5; these two have no gradient.

A plain loss stores a dozen values per pixel for backward, and passes through memory as often. Here only a few
masks are summed at a time, so that the values of a pixel stay in the cache. Nothing of full size is stored:
backward recomputes the one mask that counts at full size. Values and gradients equal those of the plain form.

Notation: z is the logit with its sign turned so that it is positive where the mask is wrong; e = sigmoid(z)
is the error. The cross entropy is then log(1 + exp(z)), and p is e where t is 0 and 1 - e where t is 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Sums = dict[str, Tensor]

DIFFERENTIABLE = ("cross_entropy", "focal", "overlap", "area")
FOCAL_ALPHA = 0.25  # weight of the pixels of the object; the background's is 1 - alpha
# Pixels per piece of work: as many as a CPU's caches hold, or as keep a GPU busy.
PIXELS_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 22}


@torch.no_grad()
def pixel_sums(logits: Tensor, targets: Tensor, names: Collection[str]) -> Sums:
    """Return the named sums [K,M] of masks [K,M,h,w] at the size of their targets [K,H,W], bool or 0 to 1."""
    found: dict[str, list[Tensor]] = defaultdict(list)
    sums_of_piece = _sums_of_hard if targets.dtype == torch.bool else _sums_of_soft
    for rows in _chunks(len(logits), targets.shape[-2:], logits.device):
        for name, values in sums_of_piece(logits[rows], targets[rows], names):
            found[name].append(values)
    sums = {name: _in_rows(pieces, logits.shape[1]) for name, pieces in found.items()}
    if "error" in sums:  # p is e on the background and 1 - e on the object
        sums["overlap"] = area_of(targets, logits.dtype)[:, None] - sums["error_on_object"]
        sums["area"] = sums["error"] - sums["error_on_object"] + sums["overlap"]
    return {name: sums[name] for name in names}


def with_gradient(logits: Tensor, targets: Tensor, sums: Sums) -> Sums:
    """Return the known sums [K] of masks [K,h,w] with a gradient to the masks."""
    if targets.dtype != torch.bool:
        return _plain(upsample(logits[:, None], targets.shape[-2:])[:, 0], targets)
    names = [name for name in DIFFERENTIABLE if name in sums]
    connected = _Known.apply(logits, targets, names, *(sums[name] for name in names))
    return {**sums, **dict(zip(names, connected))}


def pool(targets: Tensor, size: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return targets [K,H,W] averaged to another size: [K,h,w] of `dtype`; unchanged at their own size."""
    if tuple(targets.shape[-2:]) == tuple(size):
        return targets
    rows = _chunks(len(targets), targets.shape[-2:], targets.device)
    pieces = [F.adaptive_avg_pool2d(_as(targets[piece, None], dtype), (size[0], size[1])) for piece in rows]
    return torch.cat(pieces)[:, 0]


def upsample(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Return masks [K,M,h,w] at another size, bilinear."""
    if tuple(masks.shape[-2:]) == tuple(size):
        return masks
    return F.interpolate(masks, tuple(size), mode="bilinear", align_corners=False)


def is_object(targets: Tensor) -> Tensor:
    """Return where a target is more than 0.5, bool of its shape."""
    return targets if targets.dtype == torch.bool else targets > 0.5


def area_of(targets: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the sum [K] of targets [K,H,W] over their pixels."""
    rows = _chunks(len(targets), targets.shape[-2:], targets.device)
    return torch.cat([_as(targets[piece], dtype).sum((1, 2)) for piece in rows])


def _chunks(number: int, size: Sequence[int], device: torch.device) -> Iterator[slice]:
    """Slices of `number` masks of this size; at least one slice, so that there is a result to join."""
    budget = PIXELS_AT_ONCE.get(device.type, PIXELS_AT_ONCE["cuda"])
    rows = max(1, budget // max(size[0] * size[1], 1))
    return (slice(start, start + rows) for start in range(0, max(number, 1), rows))


def _in_rows(pieces: list[Tensor], num_masks: int) -> Tensor:
    """Join pieces [k,1], ordered by slice and then by mask, to [K,M]."""
    return torch.cat([torch.cat(pieces[i : i + num_masks], 1) for i in range(0, len(pieces), num_masks)])


def _as(targets: Tensor, dtype: torch.dtype) -> Tensor:
    # Through bytes: on a CPU several times as fast as from truth values.
    return (targets.view(torch.uint8) if targets.dtype == torch.bool else targets).to(dtype)


def _turn(targets: Tensor) -> Tensor:
    """The factor that turns a logit into z: 1 on the background, -1 on the object."""
    return (targets * -2).add_(1)


def _focal_weight(targets: Tensor) -> Tensor:
    return (targets * (2 * FOCAL_ALPHA - 1)).add_(1 - FOCAL_ALPHA)


def _sums_of_hard(logits: Tensor, targets: Tensor, names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    """Yield name and sum [K,1] of each of the masks [K,M,h,w] against bool targets, mask by mask."""
    there = _as(targets[:, None], logits.dtype)
    turn, weight = _turn(there), _focal_weight(there)
    for large in _grown(logits, targets.shape[-2:]):
        yield from _sums_at_full_size(large[:, None], there, turn, weight, names)


def _sums_of_soft(logits: Tensor, targets: Tensor, names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    for mask in logits.split(1, 1):
        for name, values in _plain(upsample(mask, targets.shape[-2:])[:, 0], targets).items():
            yield name, values[:, None]


def _sums_at_full_size(
    logits: Tensor, targets: Tensor, turn: Tensor, focal_weight: Tensor, names: Collection[str]
) -> Iterator[tuple[str, Tensor]]:
    """Yield the sums of masks [K,1,H,W]; buffers are overwritten, so that few are alive at once."""
    if "predicted" in names:
        predicted = logits.sign().clamp_(min=0)
        yield "predicted", _sum(predicted)
        yield "intersection", _sum(predicted.mul_(targets))
    turned = logits * turn
    error = turned.sigmoid()
    if "area" in names:
        yield "error", _sum(error)
        yield "error_on_object", _sum(error * targets)
    if "cross_entropy" in names:
        entropy = _cross_entropy(turned, error)
        yield "cross_entropy", _sum(entropy)
        if "focal" in names:
            yield "focal", _sum(error.square_().mul_(entropy).mul_(focal_weight))


def _plain(logits: Tensor, targets: Tensor) -> Sums:
    """All sums [K] of masks [K,h,w] against soft targets of the same size, such as averaged ones."""
    probabilities = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
    error = probabilities + targets - 2 * probabilities * targets
    predicted = logits.detach() > 0
    values = {
        "cross_entropy": entropy,
        "focal": (1 - FOCAL_ALPHA + (2 * FOCAL_ALPHA - 1) * targets) * error.square() * entropy,
        "overlap": probabilities * targets,
        "area": probabilities,
        "intersection": predicted & is_object(targets),
        "predicted": predicted,
    }
    return {name: each.flatten(1).sum(1).to(logits.dtype) for name, each in values.items()}


def _sum(values: Tensor) -> Tensor:
    return values.sum((2, 3))


def _cross_entropy(turned: Tensor, error: Tensor) -> Tensor:
    """log(1 + exp(z)), written over z."""
    # As max(z, 0) - log(max(e, 1 - e)): log1p takes ten times as long.
    rest = torch.maximum(error, 1 - error).log_()
    return turned.clamp_(min=0).sub_(rest)


class _Known(torch.autograd.Function):
    """Known sums; backward recomputes each pixel's gradient."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, names: Sequence[str], *sums: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)  # no pixel is computed for sums that no term reads
        ctx.save_for_backward(logits, targets)
        ctx.names = names
        return tuple(each.clone() for each in sums)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        logits, targets = ctx.saved_tensors
        given = {name: each for name, each in zip(ctx.names, gradients) if each is not None}
        result = torch.zeros_like(logits)
        for rows in _chunks(len(logits) if given else 0, targets.shape[-2:], logits.device):
            own = {name: each[rows, None, None] for name, each in given.items()}
            result[rows] = _gradient(logits[rows], _as(targets[rows], logits.dtype), own)
        return (result, None, None, *(None for _ in gradients))


def _gradient(logits: Tensor, targets: Tensor, of: Sums) -> Tensor:
    """Gradient of masks [K,h,w] from the gradients [K,1,1] of their sums."""
    turn = _turn(targets)
    (large,) = _grown(logits[:, None], targets.shape[-2:])
    turned = large * turn
    error = turned.sigmoid()
    right = 1 - error
    total = error * of["cross_entropy"] if "cross_entropy" in of else torch.zeros_like(error)
    if "overlap" in of or "area" in of:
        slope = error * right  # derivative of e; p rises with e on the background and falls on the object
        of_area, of_overlap = of.get("area", 0), of.get("overlap", 0)
        total.addcmul_(slope, of_area - (2 * of_area + of_overlap) * targets)
    if "focal" in of:
        # The derivative of e^2 log(1 + exp(z)).
        change = right.mul_(_cross_entropy(turned, error)).mul_(2).add_(error).mul_(error.square_())
        total.addcmul_(change.mul_(_focal_weight(targets)), of["focal"])
    return _downsample(total.mul_(turn), logits.shape[-2:])


def _grown(masks: Tensor, size: Sequence[int]) -> Iterator[Tensor]:
    """Yield `upsample` of masks [K,M,h,w], one of the M, [K,H,W], at a time."""
    # On a CPU growing by four, as SAM 2's masks do, takes half of PyTorch's time here.
    if masks.device.type != "cpu" or list(size) != [4 * side for side in masks.shape[-2:]]:
        yield from (upsample(mask, size)[:, 0] for mask in masks.split(1, 1))
        return
    wide = _spread_fours(masks.flatten(0, 1).transpose(1, 2).contiguous()).unflatten(0, masks.shape[:2])
    for mask in wide.unbind(1):
        yield _spread_fours(mask.transpose(1, 2).contiguous())


def _spread_fours(masks: Tensor) -> Tensor:
    """[K,h,w] to [K,4 h,w]: each row becomes four, interpolated between it and its neighbours."""
    around = torch.cat([masks[:, :1], masks, masks[:, -1:]], 1)
    above, below = around[:, :-2], around[:, 2:]
    result = masks.new_empty(len(masks), masks.shape[1], 4, masks.shape[2])
    for place, (other, weight) in enumerate([(above, 3 / 8), (above, 1 / 8), (below, 1 / 8), (below, 3 / 8)]):
        torch.lerp(masks, other, weight, out=result[:, :, place])
    return result.flatten(1, 2)


def _downsample(gradient: Tensor, size: Sequence[int]) -> Tensor:
    """The backward of `upsample` from this size: gradient [K,H,W] to [K,h,w]."""
    large = list(gradient.shape[-2:])
    if large == list(size):
        return gradient
    if gradient.device.type == "cpu" and large == [4 * side for side in size]:
        rows = _gather_fours(gradient).transpose(1, 2).contiguous()
        return _gather_fours(rows).transpose(1, 2)
    small = [len(gradient), 1, *size]
    return torch.ops.aten.upsample_bilinear2d_backward(gradient[:, None], large, small, False)[:, 0]


def _gather_fours(gradient: Tensor) -> Tensor:
    """The backward of `_spread_fours`: [K,4 h,w] to [K,h,w]."""
    # PyTorch's own backward takes ten times as long on a CPU.
    a, b, c, d = gradient.unflatten(1, (-1, 4)).unbind(2)
    result = (a + d).mul_(5 / 8).add_(b + c, alpha=7 / 8)
    above, below = (a * (3 / 8)).add_(b, alpha=1 / 8), (d * (3 / 8)).add_(c, alpha=1 / 8)
    result[:, :-1] += above[:, 1:]
    result[:, 1:] += below[:, :-1]
    result[:, 0] += above[:, 0]  # `_spread_fours` repeats the first and the last row
    result[:, -1] += below[:, -1]
    return result
