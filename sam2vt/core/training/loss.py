"""The training loss: mask terms, temporal consistency, and SAM 2's IoU and presence heads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2vt.core.training.loss_terms.entries import (
    Entries,
    Step,
    entries_of,
    final_masks,
    find_entries,
    joined,
    pairs,
)
from sam2vt.core.training.loss_terms.mask_sums import Sums, area_of, is_object, measure, pool, with_gradient
from sam2vt.core.training.loss_terms.mask_terms import FOR_TRUE_IOU, MASK_TERMS, sums_for, true_iou
from sam2vt.core.training.loss_terms.places import (
    RESOLUTIONS,
    Measuring,
    Places,
    measuring,
    terms_at_masks_size,
)
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

    `resolution="low"` measures steps at the masks' own size, a quarter of the target's side, and
    `num_points` measures their mask terms at so many points a mask, most of them drawn where the masks
    are least certain; both are cheaper and change the numbers. Points are drawn while training only.

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
        resolution: str = "full",
        num_points: int | None = None,
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
        if resolution not in RESOLUTIONS:
            raise ConfigError(f"loss.resolution: got {resolution!r}, allowed are {', '.join(RESOLUTIONS)}")
        if num_points is not None and num_points < 1:
            raise ConfigError(f"loss.num_points: got {num_points}, allowed is 1 or more, or null for all")
        self.resolution = resolution
        self.num_points = num_points

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
                self._add_step(sums, final, entries, names, terms_at_masks_size)
            for step in joined(steps or ()):
                self._add_step(sums, step, entries, names, self._measuring)
            if "temporal" in names:
                with torch.set_grad_enabled(torch.is_grad_enabled() and self.temporal_weight > 0):
                    _add(sums, "temporal", _temporal(pred_masks, entries))
            return self._total(sums, entries, _connect(pred_masks), return_components)

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each component, `total` aside."""
        return {name: getattr(self, f"{name}_weight") for name in COMPONENTS}

    @property
    def _measuring(self) -> Measuring:
        return measuring(self.resolution, self.num_points if self.training else None)

    def _names(self, return_components: bool) -> set[str]:
        reported = ALWAYS_REPORTED if return_components else ()
        return {name for name, weight in self.weights.items() if weight > 0 or name in reported}

    def _add_step(
        self, sums: dict[str, Tensor], step: Step, entries: Entries, names: set[str], where: Measuring
    ) -> None:
        """Adds the terms of decoder calls, summed over their entries that count."""
        index = tuple(step.index.unbind(1))
        counts, present = entries.counted[index], entries.present[index]
        masks = _where(counts, _at_least_float32(step.multimasks))  # [K,M,h,w]
        targets = entries.targets[index]  # [K,H,W]
        measure_ious = "iou_head" in names and step.ious is not None
        terms, true_ious = self._judge(*where(masks, targets), present, names, measure_ious)
        for name, term in terms.items():
            _add(sums, name, _sum_where(counts, term))
        if measure_ious and step.ious is not None:
            error = (_where(counts, _at_least_float32(step.ious)) - true_ious).abs().mean(1)
            _add(sums, "iou_head", _sum_where(counts & present, error))
        if "presence" in names and step.object_score_logits is not None:
            scores = _where(counts, _at_least_float32(step.object_score_logits).flatten())
            there = present.to(scores.dtype)
            error = F.binary_cross_entropy_with_logits(scores, there, reduction="none")
            _add(sums, "presence", _sum_where(counts, error))

    def _judge(
        self,
        places: Places,
        places_of_ious: Places,
        present: Tensor,
        names: set[str],
        measure_ious: bool,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The named terms [K] of each entry's best mask, and the true IoU [K,M] of all (0 if not asked for).

        All masks are measured without gradient; only the best ones cost anything in backward.
        """
        masks, targets = places
        terms = [name for name in MASK_TERMS if name in names]
        needed, for_ious = sums_for(terms), FOR_TRUE_IOU if measure_ious else ()
        if places_of_ious is places:
            measured = measure(masks, targets, [*needed, *for_ious])
        else:
            measured = measure(masks, targets, needed) | measure(*places_of_ious, for_ious)
        ious = torch.zeros_like(masks[..., 0, 0])
        covered = area_of(targets, masks.dtype)
        if measure_ious:
            objects = is_object(places_of_ious.targets)
            area = covered if objects is targets else area_of(objects, masks.dtype)
            ious = true_iou(measured, area[:, None])
        rows = torch.arange(len(masks), device=masks.device)
        best = torch.zeros_like(rows)
        if masks.shape[1] > 1:
            judged = [name for name in terms if self.weights[name] > 0]
            costs = self._mask_terms(measured, covered[:, None], targets, present[:, None], judged)
            weighted = (self.weights[name] * cost for name, cost in costs.items())
            best = sum(weighted, torch.zeros_like(ious)).argmin(1)
        sums = {name: measured[name][rows, best] for name in needed}
        if torch.is_grad_enabled():
            sums = with_gradient(masks[rows, best], targets, sums)
        return self._mask_terms(sums, covered, targets, present, terms), ious

    def _mask_terms(
        self, sums: Sums, area: Tensor, targets: Tensor, present: Tensor, names: Iterable[str]
    ) -> dict[str, Tensor]:
        """The named terms of each mask; where the object is absent all but bce are 0."""
        pixels = targets.shape[-2] * targets.shape[-1]
        terms = {name: MASK_TERMS[name](sums, area, pixels, self.smooth) for name in names}
        return {name: term if name == "bce" else term * present for name, term in terms.items()}

    def _total(
        self, sums: dict[str, Tensor], entries: Entries, nothing: Tensor, return_components: bool
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        counts = entries.counts()
        means = {name: value / getattr(counts, COMPONENTS[name]) for name, value in sums.items()}
        total = nothing
        for name, mean in means.items():
            if self.weights[name] > 0:
                total = total + self.weights[name] * mean
        if not return_components:
            return total
        return total, {name: value.detach() for name, value in {**means, "total": total}.items()}


def _temporal(pred_masks: Tensor, entries: Entries) -> Tensor:
    """Sum over the pairs of frames of the mean |change of the probability - change of the target|."""
    probabilities = _where(entries.counted, _at_least_float32(pred_masks)).sigmoid()
    targets = pool(entries.targets.flatten(0, 2), pred_masks.shape[-2:], probabilities.dtype)
    targets = targets.to(probabilities.dtype).view_as(probabilities)
    change = probabilities.diff(dim=1) - targets.diff(dim=1)
    return _sum_where(pairs(entries.counted), change.abs().mean((3, 4)))


def _sum_where(counts: Tensor, values: Tensor) -> Tensor:
    return _where(counts, values).sum()


def _where(counts: Tensor, values: Tensor) -> Tensor:
    """0 in place of what does not count, were it NaN; a selection would make the host wait for `counts`."""
    return torch.where(counts.view(*counts.shape, *[1] * (values.ndim - counts.ndim)), values, 0)


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _connect(x: Tensor) -> Tensor:
    """0 with a gradient path to x; unlike 0 * x.sum() it is 0 even where x holds NaN."""
    return _at_least_float32(x.flatten()[:0]).sum()


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
