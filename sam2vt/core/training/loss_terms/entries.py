"""Find the entries of the loss: which objects count on which frames, and the divisors of the means.

An entry is (b,t,n): object n of clip b on frame t.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from sam2vt.core.model.tracking.heads import NOT_TRACKED_LOGIT
from sam2vt.core.model.tracking.heads import DecoderStep as Step
from sam2vt.errors import DataError


class Counts(NamedTuple):
    """Denominators of the means: over all ranks, divided by the number of ranks; never 0."""

    valid: Tensor  # entries that count
    present: Tensor  # those of them whose target is not empty
    pairs: Tensor  # entries that count on frame t and on frame t + 1


class Entries(NamedTuple):
    """The entries of a batch: which count, and their targets."""

    targets: Tensor  # [B,T,N,H,W]
    counted: Tensor  # bool [B,T,N]
    present: Tensor  # bool [B,T,N]: the target is not empty
    numbers: Tensor  # float [3], as in `Counts`; being added up over the ranks where `adding` is not None
    adding: dist.Work | None

    def counts(self) -> Counts:
        """Return the denominators. Waits for the numbers of the other ranks, so call it last."""
        numbers = self.numbers
        if self.adding is not None:
            self.adding.wait()
            numbers = numbers / dist.get_world_size()
        return Counts(*torch.where(numbers == 0, torch.ones_like(numbers), numbers))


def find_entries(
    targets: Tensor,
    valid_masks: Tensor | None,
    scored: Tensor | None,
    across_ranks: bool,
    update: Mapping[str, int] | None = None,
) -> Entries:
    """Return the entries of targets [B,T,N,H,W] that count: both masks (bool [B,T,N] or None) are true.

    If `across_ranks`, starts a collective that `Entries.counts` completes. `update` are the numbers of all
    batches in this rank's update; they replace those of this batch.
    """
    counted, present = _counted_and_present(targets, valid_masks, scored)
    if update is None:
        numbers = torch.stack(_numbers(counted, present)).float()
    else:
        numbers = torch.tensor([float(update[name]) for name in Counts._fields], device=counted.device)
    # Asynchronous: the terms are computed while the ranks add their numbers up.
    several = across_ranks and dist.is_available() and dist.is_initialized()
    adding = dist.all_reduce(numbers, async_op=True) if several else None
    return Entries(targets, counted, present, numbers, adding)


def count_entries(targets: Tensor, valid_masks: Tensor | None, scored: Tensor | None) -> dict[str, int]:
    """Return the numbers of entries of this process, by the names of `Counts`; here, 0 stays 0."""
    numbers = _numbers(*_counted_and_present(targets, valid_masks, scored))
    return dict(zip(Counts._fields, torch.stack(numbers).tolist()))


def _counted_and_present(
    targets: Tensor, valid_masks: Tensor | None, scored: Tensor | None
) -> tuple[Tensor, Tensor]:
    """bool [B,T,N] each: the entry counts; its target is not empty."""
    # Truth values as bytes: on a CPU their maximum takes a hundredth of the time of `any`.
    values = targets.view(torch.uint8) if targets.dtype == torch.bool else targets
    present = values.flatten(3).amax(3) > 0
    counted = torch.ones_like(present)
    for mask in (valid_masks, scored):
        if mask is not None:
            counted = counted & mask.to(device=counted.device, dtype=torch.bool)
    return counted, present


def _numbers(counted: Tensor, present: Tensor) -> Counts:
    return Counts(counted.sum(), (counted & present).sum(), pairs(counted).sum())


def pairs(counted: Tensor) -> Tensor:
    """Return bool [B,T-1,N]: the entry counts on frame t and on frame t + 1."""
    return counted[:, 1:] & counted[:, :-1]


def entries_of(steps: Sequence[Step], pred_masks: Tensor) -> Tensor:
    """Return bool [B,T,N]: the entry occurs in a step."""
    scored = torch.zeros(pred_masks.shape[:3], dtype=torch.bool, device=pred_masks.device)
    for step in steps:
        scored[tuple(step.index.unbind(1))] = True
    return scored


def is_tracked(pred_masks: Tensor) -> Tensor:
    """Return bool [B,T,N]: logits [B,T,N,h,w] of the model are not the filling of untracked entries."""
    # One pixel tells, since the fill is below any logit; resized masks hold it but for rounding.
    first = pred_masks.detach()[..., :1, :1].flatten(3).sum(3)
    return ~((first - NOT_TRACKED_LOGIT).abs() <= 1)  # NaN is a prediction, which must be seen


def check_targets(targets: Tensor) -> None:
    """Raise DataError for targets that are not from 0 to 1, as in masks of 0 and 255; bool costs nothing."""
    if targets.dtype == torch.bool or not targets.numel():
        return
    low, high = (float(value) for value in targets.detach().aminmax())
    if not (low >= 0 and high <= 1):  # NaN is neither
        raise DataError(
            f"target_masks: values from {low:g} to {high:g}; allowed are bool, or numbers from 0 to 1"
        )


def final_masks(
    pred_masks: Tensor, entries: Entries, ious: Tensor | None, object_score_logits: Tensor | None
) -> Step:
    """Return the counting pred_masks [B,T,N,h,w], ious and object_score_logits [B,T,N] as a step."""

    def column(values: Tensor | None) -> Any:
        return None if values is None else values[entries.counted][:, None]

    return Step(entries.counted.nonzero(), column(pred_masks), column(ious), column(object_score_logits))


def merged(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield the steps; steps with the same number of masks per entry are merged into one."""
    # One large operation costs less than several small ones, on a GPU above all.
    alike: dict[tuple[Any, ...], list[Step]] = defaultdict(list)
    for step in steps:
        alike[step.multimasks.shape[1:], step.ious is None, step.object_score_logits is None].append(step)
    for group in alike.values():
        yield Step(*(_cat([getattr(step, each.name) for step in group]) for each in fields(Step)))


def _cat(values: list[Any]) -> Any:
    return None if values[0] is None else torch.cat(values)


def sum_where(counts: Tensor, values: Tensor) -> Tensor:
    """Return the sum, a scalar, of values [K,...] where `counts` (bool [K]) is true."""
    return zero_unless(counts, values).sum()


def zero_unless(counts: Tensor, values: Tensor) -> Tensor:
    """Return values [K,...] with 0 where `counts` (bool [K]) is false, even if the value is NaN."""
    # A selection by `counts` would have an unknown size, for which the host would wait.
    return torch.where(counts.view(*counts.shape, *[1] * (values.ndim - counts.ndim)), values, 0)


def at_least_float32(x: Tensor) -> Tensor:
    """Return x as float32; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()


def connected_zero(x: Tensor) -> Tensor:
    """Return 0 with a gradient path to x; unlike 0 * x.sum() it is 0 even if x contains NaN."""
    return at_least_float32(x.flatten()[:0]).sum()
