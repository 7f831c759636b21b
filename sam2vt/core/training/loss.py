"""The training loss: mask terms, temporal consistency, and SAM 2's IoU and presence heads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2vt.core.training.entries import Entries, Step, entries_of, final_masks, find_entries, pairs
from sam2vt.core.training.mask_terms import MASK_TERMS, true_iou
from sam2vt.errors import ConfigError

# Each component and the count (see entries.Counts) that its mean divides by.
COMPONENTS = {
    "bce": "valid",
    "dice": "present",
    "iou": "present",
    "temporal": "pairs",
    "focal": "present",
    "iou_head": "present",
    "presence": "valid",
}
# These are always reported; the others only where they have a weight and their inputs.
ALWAYS_REPORTED = ("bce", "dice", "iou", "temporal")


class SAM2TrainingLoss(nn.Module):
    """Weighted sum of mask, temporal, IoU-head and presence terms over the entries that count.

    An entry is an object on a frame, (b,t,n); it counts where `valid_masks` and `scored` are true.

    - `bce`: binary cross entropy; sum over the entries / number of entries.
    - `dice`, `iou` (soft Jaccard), `focal` (alpha 0.25, gamma 2): only entries whose target is not
      empty; sum over them / their number.
    - `temporal`: |change of the probability - change of the target| from a frame to the next; mean
      over the pixels, sum over pairs of frames that both count / number of pairs; 0 for T=1.
    - `iou_head`: |predicted IoU - IoU of the thresholded mask|, mean over the masks of a step; only
      entries whose target is not empty, as `dice`.
    - `presence`: binary cross entropy of the object score against "the target is not empty", as `bce`.

    With `steps` (what the model's decoder was asked, correction clicks included) the mask terms,
    `iou_head` and `presence` come from them: a step's masks are brought to the target's size, of
    several masks only the best one (lowest weighted sum of the mask terms) counts, and the terms of
    an entry's steps are added up, as in SAM 2's own recipe. `temporal` is always of `pred_masks`.

    While training under torch.distributed the numbers of entries are those of all ranks, scaled so
    that averaging the ranks' gradients (or losses) gives the mean over all ranks' entries; every rank
    must call it equally often then. In eval mode each rank's mean is its own.

    Computed in float32 (float64 stays), autocast or not. With no entry that counts the loss is 0 and
    still connected to its inputs.
    """

    def __init__(
        self,
        bce_weight: float = 1.0,
        dice_weight: float = 1.0,
        iou_weight: float = 0.5,
        temporal_weight: float = 0.1,
        smooth: float = 1e-6,
        *,
        iou_head_weight: float = 1.0,
        presence_weight: float = 1.0,
        focal_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.bce_weight = bce_weight
        self.dice_weight = dice_weight
        self.iou_weight = iou_weight
        self.temporal_weight = temporal_weight
        self.smooth = smooth
        self.iou_head_weight = iou_head_weight
        self.presence_weight = presence_weight
        self.focal_weight = focal_weight
        for name, value in vars(self).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
                raise ConfigError(f"loss.{name}: got {value}, allowed is 0 or more")

    def forward(
        self,
        pred_masks: Tensor,
        target_masks: Tensor,
        valid_masks: Tensor | None = None,
        return_components: bool = False,
        *,
        iou_predictions: Tensor | None = None,
        object_score_logits: Tensor | None = None,
        scored: Tensor | None = None,
        steps: Sequence[Step] | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """The total, or (total, components).

        pred_masks: [B,T,N,h,w] logits. target_masks: [B,T,N,H,W], bool or 0 to 1; brought to h x w by
        area where the sizes differ. valid_masks, scored: bool [B,T,N], all true by default; with
        `steps` alone, the entries that occur in a step are scored. iou_predictions and
        object_score_logits: [B,T,N], used where no `steps` are given.

        Components are unweighted, detached scalars: bce, dice, iou, temporal, total always; focal,
        iou_head and presence where their weight is not 0 and their inputs are given. One of the first
        four whose weight is 0 is computed without gradient, and only if components are asked for.
        """
        _check_shapes(pred_masks, target_masks, valid_masks, scored, iou_predictions, object_score_logits)
        with torch.autocast(pred_masks.device.type, enabled=False):
            if steps is not None and scored is None:
                scored = entries_of(steps, pred_masks)
            entries = find_entries(target_masks, valid_masks, scored, across_ranks=self.training)
            names = self._names(return_components)
            always = ALWAYS_REPORTED if steps is None else COMPONENTS
            sums = {name: _connect(pred_masks) for name in always if name in names}
            if steps is None:
                final = final_masks(pred_masks, entries, iou_predictions, object_score_logits)
                self._add_step(sums, final, entries, names, upsample=False)
            for step in steps or ():
                self._add_step(sums, step, entries, names, upsample=True)
            if "temporal" in names:
                with _gradient(self.temporal_weight):
                    _add(sums, "temporal", _temporal(pred_masks, entries))
            return self._total(sums, entries, _connect(pred_masks), return_components)

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each component, `total` aside."""
        return {name: getattr(self, f"{name}_weight") for name in COMPONENTS}

    def _names(self, return_components: bool) -> set[str]:
        reported = ALWAYS_REPORTED if return_components else ()
        return {name for name, weight in self.weights.items() if weight > 0 or name in reported}

    def _add_step(
        self, sums: dict[str, Tensor], step: Step, entries: Entries, names: set[str], upsample: bool
    ) -> None:
        """Adds the terms of one decoder call, summed over its entries that count."""
        keep = entries.counted[tuple(step.index.unbind(1))]
        index = tuple(step.index[keep].unbind(1))
        masks = _at_least_float32(step.multimasks[keep])  # [K,M,h,w]
        targets = entries.targets[index].to(masks.dtype)  # [K,H,W]
        present = entries.present[index]
        measure_ious = "iou_head" in names and step.ious is not None
        best, true_ious = self._judge(masks, targets, present, measure_ious)
        chosen = masks[torch.arange(len(masks), device=masks.device), best]
        chosen, resized = _same_size(chosen, targets, upsample)
        for name, term in self._mask_terms(chosen, resized, present, names).items():
            _add(sums, name, term.sum())
        if measure_ious and step.ious is not None:
            error = (_at_least_float32(step.ious[keep]) - true_ious).abs().mean(1)
            _add(sums, "iou_head", (error * present).sum())
        if "presence" in names and step.object_score_logits is not None:
            scores = _at_least_float32(step.object_score_logits[keep]).flatten()
            there = present.to(scores.dtype)
            _add(sums, "presence", F.binary_cross_entropy_with_logits(scores, there, reduction="sum"))

    @torch.no_grad()
    def _judge(
        self, masks: Tensor, targets: Tensor, present: Tensor, measure_ious: bool
    ) -> tuple[Tensor, Tensor]:
        """Which mask of each entry is best [K], and the true IoU [K,M] of each (empty if not asked for).

        Goes mask by mask and keeps no gradient, so that only the best ones cost memory in backward.
        """
        costs, ious = [], []
        choose = masks.shape[1] > 1
        weights = {name: self.weights[name] for name in MASK_TERMS if self.weights[name] > 0}
        for mask in masks.unbind(1):
            if choose or measure_ious:
                mask = _upsample(mask, targets.shape[-2:])
            if measure_ious:
                ious.append(true_iou(mask, targets))
            if choose:
                terms = self._mask_terms(mask, targets, present, weights)
                costs.append(
                    sum((weights[name] * term for name, term in terms.items()), mask.new_zeros(len(mask)))
                )
        nothing = masks.new_zeros(len(masks), masks.shape[1])
        best = (torch.stack(costs, 1) if choose else nothing).argmin(1)
        return best, torch.stack(ious, 1) if measure_ious else nothing

    def _mask_terms(
        self, logits: Tensor, targets: Tensor, present: Tensor, names: Iterable[str]
    ) -> dict[str, Tensor]:
        """The named terms [K] of one mask an entry; where the object is absent all but bce are 0."""
        wanted = [name for name in MASK_TERMS if name in names]
        probabilities = logits.sigmoid()
        terms = {}
        for name in wanted:
            with _gradient(self.weights[name]):
                term = MASK_TERMS[name](logits, probabilities, targets, self.smooth)
            terms[name] = term if name == "bce" else term * present
        return terms

    def _total(
        self, sums: dict[str, Tensor], entries: Entries, nothing: Tensor, return_components: bool
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        means = {name: value / getattr(entries.counts, COMPONENTS[name]) for name, value in sums.items()}
        total = nothing
        for name, mean in means.items():
            if self.weights[name] > 0:
                total = total + self.weights[name] * mean
        if not return_components:
            return total
        return total, {name: value.detach() for name, value in {**means, "total": total}.items()}


def _temporal(pred_masks: Tensor, entries: Entries) -> Tensor:
    """Sum over the pairs of frames of the mean |change of the probability - change of the target|."""
    b, t, n = pairs(entries.counted).nonzero(as_tuple=True)
    size = pred_masks.shape[-2:]
    before, after = (_at_least_float32(pred_masks[b, i, n]).sigmoid() for i in (t, t + 1))
    target_before, target_after = (_pool(entries.targets[b, i, n].to(before.dtype), size) for i in (t, t + 1))
    change = (after - before) - (target_after - target_before)
    return change.abs().flatten(1).mean(1).sum()


def _same_size(logits: Tensor, targets: Tensor, upsample: bool) -> tuple[Tensor, Tensor]:
    if upsample:
        return _upsample(logits, targets.shape[-2:]), targets
    return logits, _pool(targets, logits.shape[-2:])


def _upsample(logits: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits
    return F.interpolate(logits[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]


def _pool(targets: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(targets.shape[-2:]) == tuple(size):
        return targets
    return F.adaptive_avg_pool2d(targets[:, None], (size[0], size[1]))[:, 0]


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _connect(x: Tensor) -> Tensor:
    """0 with a gradient path to x; unlike 0 * x.sum() it is 0 even where x holds NaN."""
    return _at_least_float32(x.flatten()[:0]).sum()


def _gradient(weight: float) -> torch.set_grad_enabled:
    return torch.set_grad_enabled(torch.is_grad_enabled() and weight > 0)


def _check_shapes(
    pred_masks: Tensor,
    target_masks: Tensor,
    valid_masks: Tensor | None,
    scored: Tensor | None,
    iou_predictions: Tensor | None,
    object_score_logits: Tensor | None,
) -> None:
    if pred_masks.dim() != 5 or target_masks.dim() != 5 or pred_masks.shape[:3] != target_masks.shape[:3]:
        raise ValueError(
            f"pred_masks {tuple(pred_masks.shape)} and target_masks {tuple(target_masks.shape)}: "
            "both must be [B,T,N,height,width] with the same B, T and N"
        )
    others = {
        "valid_masks": valid_masks,
        "scored": scored,
        "iou_predictions": iou_predictions,
        "object_score_logits": object_score_logits,
    }
    for name, tensor in others.items():
        if tensor is not None and tensor.shape != pred_masks.shape[:3]:
            raise ValueError(f"{name} {tuple(tensor.shape)}: must be [B,T,N] {tuple(pred_masks.shape[:3])}")
