"""Table of the loss terms: the formula of each, the divisor of its mean, and the head that it trains.

A new term is a function, a row of `TERMS`, and its weight `<name>_weight` in `config.LossConfig`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2vt.core.model.tracking.heads import DecoderStep as Step
from sam2vt.core.training.loss_terms.entries import (
    Entries,
    at_least_float32,
    pairs,
    sum_where,
    zero_unless,
)
from sam2vt.core.training.loss_terms.mask_sums import Sums, pool


class MaskPixels(NamedTuple):
    """The pixels of masks and their targets, as sums. All tensors have the same shape, [K] or [K,M]."""

    sums: Sums  # see `mask_sums`
    target_area: Tensor
    number: int  # pixels per mask
    smooth: float


@dataclass(frozen=True, kw_only=True)
class Term:
    """A row of the table, of one of the three kinds below."""

    divides_by: str  # the field of `entries.Counts` that turns the sum over entries into a mean
    always_reported: bool = False  # computed for the components even if its weight is 0
    head: str | None = None  # part of SAM 2's network that only this term trains


@dataclass(frozen=True, kw_only=True)
class MaskTerm(Term):
    """Compares predicted masks with their targets; of several masks per entry, only the best counts."""

    of: Callable[[MaskPixels], Tensor]  # one value per mask
    sums: tuple[str, ...]  # that `of` reads


@dataclass(frozen=True, kw_only=True)
class HeadTerm(Term):
    """Scores a further output of the decoder: (output, target not empty, true IoUs) -> [K]."""

    of: Callable[[Tensor, Tensor, Tensor], Tensor]
    output: str  # field of `Step`; the term is left out where it is None
    uses_true_ious: bool = False  # else `of` gets zeros, and the IoUs are not computed


@dataclass(frozen=True, kw_only=True)
class ClipTerm(Term):
    """Compares all frames of the final masks [B,T,N,h,w] together: a sum over counting entries."""

    of: Callable[[Tensor, Entries], Tensor]


def _bce(mask: MaskPixels) -> Tensor:
    """Binary cross entropy, mean over the pixels."""
    return mask.sums["cross_entropy"] / mask.number


def _dice(mask: MaskPixels) -> Tensor:
    """1 - (2 |p g| + smooth) / (|p| + |g| + smooth), sums over the pixels."""
    both = mask.sums["area"] + mask.target_area
    return 1 - (2 * mask.sums["overlap"] + mask.smooth) / _positive(both + mask.smooth)


def _soft_jaccard(mask: MaskPixels) -> Tensor:
    """1 - (|p g| + smooth) / (|p| + |g| - |p g| + smooth), sums over the pixels."""
    overlap = mask.sums["overlap"]
    union = mask.sums["area"] + mask.target_area - overlap
    return 1 - (overlap + mask.smooth) / _positive(union + mask.smooth)


def _focal(mask: MaskPixels) -> Tensor:
    """Sigmoid focal loss (alpha 0.25, gamma 2), mean over the pixels."""
    return mask.sums["focal"] / mask.number


def _temporal(pred_masks: Tensor, entries: Entries) -> Tensor:
    """|change of the probability - change of the target| from frame to frame, mean over the pixels."""
    probabilities = zero_unless(entries.counted, at_least_float32(pred_masks)).sigmoid()
    targets = pool(entries.targets.flatten(0, 2), pred_masks.shape[-2:], probabilities.dtype)
    targets = targets.to(probabilities.dtype).view_as(probabilities)
    change = probabilities.diff(dim=1) - targets.diff(dim=1)
    return sum_where(pairs(entries.counted), change.abs().mean((3, 4)))


def _iou_error(predicted: Tensor, present: Tensor, true_ious: Tensor) -> Tensor:
    """|predicted IoU - true IoU| of IoUs [K,M], mean over the masks."""
    return (predicted - true_ious).abs().mean(1)


def _presence(logits: Tensor, present: Tensor, true_ious: Tensor) -> Tensor:
    """Binary cross entropy of object scores [K,1] against "the target is not empty"."""
    scores = logits.flatten()
    return F.binary_cross_entropy_with_logits(scores, present.to(scores.dtype), reduction="none")


# The order is that of the components and of the additions that give the total: another one rounds otherwise.
TERMS: dict[str, Term] = {
    "bce": MaskTerm(of=_bce, sums=("cross_entropy",), divides_by="valid", always_reported=True),
    "dice": MaskTerm(of=_dice, sums=("overlap", "area"), divides_by="present", always_reported=True),
    "iou": MaskTerm(of=_soft_jaccard, sums=("overlap", "area"), divides_by="present", always_reported=True),
    "temporal": ClipTerm(of=_temporal, divides_by="pairs", always_reported=True),
    "focal": MaskTerm(of=_focal, sums=("cross_entropy", "focal"), divides_by="present"),
    "iou_head": HeadTerm(
        of=_iou_error,
        output="ious",
        uses_true_ious=True,
        divides_by="present",
        head="sam_mask_decoder.iou_prediction_head",
    ),
    "presence": HeadTerm(
        of=_presence,
        output="object_score_logits",
        divides_by="valid",
        head="sam_mask_decoder.pred_obj_score_head",
    ),
}


def mask_terms(names: Iterable[str]) -> dict[str, MaskTerm]:
    """Return the mask terms among the named ones, in the table's order."""
    return {name: term for name, term in TERMS.items() if isinstance(term, MaskTerm) and name in names}


def head_terms(names: Iterable[str], step: Step) -> dict[str, HeadTerm]:
    """Return the head terms among the named ones whose output `step` has, in the table's order."""
    return {
        name: term
        for name, term in TERMS.items()
        if isinstance(term, HeadTerm) and name in names and getattr(step, term.output) is not None
    }


# The sums that `true_iou` reads.
FOR_TRUE_IOU = ("intersection", "predicted")


def true_iou(sums: Sums, target_area: Tensor) -> Tensor:
    """Return the IoU of thresholded masks (logit > 0, target > 0.5); 0 where both are empty."""
    union = sums["predicted"] + target_area - sums["intersection"]
    return sums["intersection"] / union.clamp(min=1)


def _positive(denominator: Tensor) -> Tensor:
    # Only smooth=0 on two empty masks gets here; those entries are weighted 0, and 0 x NaN is NaN.
    return denominator.clamp(min=torch.finfo(denominator.dtype).tiny)
