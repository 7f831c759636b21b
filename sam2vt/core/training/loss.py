"""The training loss: a weighted sum of the terms of `loss_terms.terms` over the entries that count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, cast

import torch
from torch import Tensor, nn

from sam2vt.config import LossConfig
from sam2vt.configuration.reading import checked
from sam2vt.core.model.tracking.heads import DecoderStep as Step
from sam2vt.core.training.loss_terms.entries import (
    Entries,
    at_least_float32,
    check_targets,
    connected_zero,
    entries_of,
    final_masks,
    find_entries,
    is_tracked,
    merged,
    sum_where,
    zero_unless,
)
from sam2vt.core.training.loss_terms.mask_sums import area_of, is_object, pixel_sums, with_gradient
from sam2vt.core.training.loss_terms.places import Places, Sampler, sampler, terms_at_masks_size
from sam2vt.core.training.loss_terms.terms import (
    FOR_TRUE_IOU,
    TERMS,
    ClipTerm,
    MaskPixels,
    head_terms,
    mask_terms,
    true_iou,
)


class SAM2TrainingLoss(nn.Module):
    """Weighted sum of mask, temporal, IoU-head and presence terms over the entries that count.

    An entry is an object on a frame, (b,t,n); it counts where `valid_masks` and `scored` are true.

    - `bce`: binary cross entropy; sum over the entries / number of entries.
    - `dice`, `iou` (soft Jaccard), `focal` (alpha 0.25, gamma 2): only entries whose target is not
      empty; sum over them / their number.
    - `temporal`: |change of the probability - change of the target| from one frame to the next; mean
      over the pixels, sum over pairs of frames that both count / number of pairs; 0 for T=1.
    - `iou_head`: |predicted IoU - IoU of the thresholded mask|, mean over the masks of a step; only
      entries whose target is not empty, as for `dice`.
    - `presence`: binary cross entropy of the object score against "the target is not empty", as `bce`.

    With `steps` (the decoder's calls, including correction clicks) the mask terms, `iou_head` and `presence`
    come from them. The masks of a step are resized to the target's size. If there are several masks, only the
    best one (lowest weighted sum of the mask terms) counts. The terms of an entry's steps are added up, as in
    SAM 2's own recipe. `temporal` always uses `pred_masks`.

    `resolution="low"` compares at the masks' own size, a quarter of the target's side. `num_points` computes
    the mask terms at that many points per mask, most of them drawn where the masks are least certain. Both
    are cheaper but change the results. Points are drawn only in training.

    In training under torch.distributed the numbers of entries are those of all ranks, scaled so that
    averaging the ranks' gradients (or losses) gives the mean over all ranks' entries. Every rank must then
    call it equally often. In eval mode each rank computes its own mean.

    The loss is computed in float32 (float64 stays), with or without autocast. If no entry counts, the loss is
    0 and still connected to its inputs.

    `weights` takes the weight of any other term by name, such as `focal_weight`. `LossConfig` gives defaults
    and allowed values. Raises ConfigError for anything else.
    """

    def __init__(
        self,
        bce_weight: float = 1.0,
        dice_weight: float = 1.0,
        iou_weight: float = 0.5,
        temporal_weight: float = 0.1,
        smooth: float = 1e-6,
        *,
        resolution: str = "full",
        num_points: int | None = None,
        **weights: float,
    ) -> None:
        super().__init__()
        weights |= {"bce_weight": bce_weight, "dice_weight": dice_weight, "smooth": smooth}
        weights |= {"iou_weight": iou_weight, "temporal_weight": temporal_weight}
        given = {**weights, "resolution": resolution, "num_points": num_points}
        settings = checked(LossConfig, given, "loss.")
        self.smooth, self.resolution, self.num_points = settings.smooth, resolution, num_points
        for name in TERMS:
            setattr(self, f"{name}_weight", getattr(settings, f"{name}_weight"))

    def forward(
        self,
        pred_masks: Tensor | Mapping[str, Any],
        target_masks: Tensor,
        valid_masks: Tensor | None = None,
        return_components: bool = False,
        *,
        iou_predictions: Tensor | None = None,
        object_score_logits: Tensor | None = None,
        scored: Tensor | None = None,
        steps: Sequence[Step] | None = None,
        update: Mapping[str, int] | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Return the total, or (total, components).

        - pred_masks: [B,T,N,h,w] logits, or the model's whole dict, which also says what was predicted and by
          which steps. Bare logits count wherever an object was tracked. On a frame with a mask prompt they
          are the prompt itself, but count as a prediction.
        - target_masks: [B,T,N,H,W], bool or 0 to 1; resized to h x w by area if the sizes differ.
        - valid_masks, scored: bool [B,T,N], all true by default. With only `steps`, the entries that occur in
          a step are scored.
        - iou_predictions, object_score_logits: [B,T,N], used if no `steps` are given.
        - update: numbers of entries in all batches of an update, by the names of `entries.Counts`. The sums
          of this batch are divided by them, so that the losses of all batches add up to the mean.

        Components are unweighted, detached scalars: bce, dice, iou, temporal, total always; focal, iou_head
        and presence if their weight is not 0 and their inputs are given. If one of the first four has weight
        0, it is computed without gradient, and only if components are requested. Raises ValueError if shapes
        do not match, and for targets on a CPU that are not from 0 to 1.
        """
        if isinstance(pred_masks, Mapping):
            out = pred_masks
            pred_masks = cast(Tensor, out["pred_masks"])
            scored = out.get("scored") if scored is None else scored
            steps = out.get("steps") if steps is None else steps
        if target_masks.device.type == "cpu":  # elsewhere looking at the values would wait for the device
            check_targets(target_masks)
        per_entry = {"valid_masks": valid_masks, "scored": scored}
        per_entry |= {"iou_predictions": iou_predictions, "object_score_logits": object_score_logits}
        _check_shapes(pred_masks, target_masks, per_entry)
        with torch.autocast(pred_masks.device.type, enabled=False):
            if scored is None:
                scored = is_tracked(pred_masks) if steps is None else entries_of(steps, pred_masks)
            entries = find_entries(target_masks, valid_masks, scored, self.training, update)
            names = [
                name
                for name, term in TERMS.items()
                if self.weights[name] > 0 or (return_components and term.always_reported)
            ]
            nothing = connected_zero(pred_masks)
            sums = {name: nothing for name in names if steps is not None or TERMS[name].always_reported}
            if steps is None:
                final = final_masks(pred_masks, entries, iou_predictions, object_score_logits)
                self._add_step(sums, final, entries, names, terms_at_masks_size)
            # A validation looks at every pixel, so that its losses do not depend on a draw.
            num_points = self.num_points if self.training else None
            for step in merged(steps or ()):
                self._add_step(sums, step, entries, names, sampler(self.resolution, num_points))
            self._add_clip_terms(sums, pred_masks, entries, names)
            return self._total(sums, entries, nothing, return_components)

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each component except for `total`."""
        return {name: getattr(self, f"{name}_weight") for name in TERMS}

    def _add_step(
        self, sums: dict[str, Tensor], step: Step, entries: Entries, names: Sequence[str], where: Sampler
    ) -> None:
        """Add the terms of decoder calls, summed over their entries that count."""
        index = tuple(step.index.unbind(1))
        counts, present = entries.counted[index], entries.present[index]
        masks = zero_unless(counts, at_least_float32(step.multimasks))  # [K,M,h,w]
        heads = head_terms(names, step)
        with_ious = any(term.uses_true_ious for term in heads.values())
        terms, true_ious = self._judge(*where(masks, entries.targets[index]), present, names, with_ious)
        for name, value in terms.items():
            _add(sums, name, sum_where(counts, value))
        for name, term in heads.items():
            output = zero_unless(counts, at_least_float32(getattr(step, term.output)))
            used = counts & present if term.divides_by == "present" else counts
            _add(sums, name, sum_where(used, term.of(output, present, true_ious)))

    def _add_clip_terms(
        self, sums: dict[str, Tensor], pred_masks: Tensor, entries: Entries, names: Iterable[str]
    ) -> None:
        for name in names:
            term = TERMS[name]
            if isinstance(term, ClipTerm):
                # Reported only: a graph over all frames would be kept for nothing.
                with torch.set_grad_enabled(torch.is_grad_enabled() and self.weights[name] > 0):
                    _add(sums, name, term.of(pred_masks, entries))

    def _judge(
        self, places: Places, places_of_ious: Places, present: Tensor, names: Sequence[str], with_ious: bool
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The mask terms [K] of each entry's best mask, and the true IoU [K,M] of all (0 if not asked for).

        All masks are measured without gradient; only the best ones cost anything in the backward pass.
        """
        masks, targets = places
        needed = list(dict.fromkeys(each for term in mask_terms(names).values() for each in term.sums))
        for_ious = FOR_TRUE_IOU if with_ious else ()
        if places_of_ious is places:  # one pass over the pixels gives both
            measured = pixel_sums(masks, targets, [*needed, *for_ious])
        else:
            measured = pixel_sums(masks, targets, needed) | pixel_sums(*places_of_ious, for_ious)
        covered = area_of(targets, masks.dtype)
        ious = torch.zeros_like(masks[..., 0, 0])
        if with_ious:
            objects = is_object(places_of_ious.targets)
            area = covered if objects is targets else area_of(objects, masks.dtype)
            ious = true_iou(measured, area[:, None])
        pixels = targets.shape[-2] * targets.shape[-1]
        rows = torch.arange(len(masks), device=masks.device)
        # One mask per entry, as from a correction click, leaves nothing to choose.
        best = torch.zeros_like(rows)
        if masks.shape[1] > 1:
            best = self._best(MaskPixels(measured, covered[:, None], pixels, self.smooth), present, names)
        sums = {name: measured[name][rows, best] for name in needed}
        if torch.is_grad_enabled():
            sums = with_gradient(masks[rows, best], targets, sums)
        return _mask_terms(MaskPixels(sums, covered, pixels, self.smooth), present, names), ious

    def _best(self, masks: MaskPixels, present: Tensor, names: Sequence[str]) -> Tensor:
        """Index [K] of the mask with the lowest weighted sum of the active mask terms; masks [K,M]."""
        weights = self.weights
        costs = _mask_terms(masks, present[:, None], [name for name in names if weights[name] > 0])
        weighted = [weights[name] * cost for name, cost in costs.items()]
        if not weighted:
            return torch.zeros_like(present, dtype=torch.long)
        return reduce(torch.add, weighted).argmin(1)

    def _total(
        self, sums: dict[str, Tensor], entries: Entries, nothing: Tensor, return_components: bool
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        counts = entries.counts()
        means = {name: value / getattr(counts, TERMS[name].divides_by) for name, value in sums.items()}
        total = nothing
        for name, mean in means.items():
            if self.weights[name] > 0:
                total = total + self.weights[name] * mean
        if not return_components:
            return total
        return total, {name: value.detach() for name, value in {**means, "total": total}.items()}


def batch_loss(
    model: Callable[..., Mapping[str, Any]], criterion: SAM2TrainingLoss, batch: Mapping[str, Any]
) -> tuple[Tensor, dict[str, Tensor], Mapping[str, Any]]:
    """Return the loss of a batch, its components, and the model's outputs.

    `model` is `SAM2Model`, or has the same arguments and results. A batch that carries the numbers of its
    update is divided by these.
    """
    masks, valid = batch["masks"], batch["valid_masks"]
    seen = {"valid_masks": valid, "features": batch.get("features")}
    out = model(batch.get("images"), masks, batch["prompts"], **seen)
    total, components = criterion(out, masks, valid, True, update=batch.get("update"))
    return total, components, out


def _mask_terms(masks: MaskPixels, present: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
    """The named mask terms of each mask; those that only visible objects have are 0 if it is absent."""
    return {
        name: term.of(masks) * present if term.divides_by == "present" else term.of(masks)
        for name, term in mask_terms(names).items()
    }


def _add(sums: dict[str, Tensor], name: str, value: Tensor) -> None:
    sums[name] = sums[name] + value if name in sums else value


def _check_shapes(pred_masks: Tensor, target_masks: Tensor, others: Mapping[str, Tensor | None]) -> None:
    if pred_masks.dim() != 5 or target_masks.dim() != 5 or pred_masks.shape[:3] != target_masks.shape[:3]:
        raise ValueError(
            f"pred_masks {tuple(pred_masks.shape)} and target_masks {tuple(target_masks.shape)}: "
            "both must be [B,T,N,height,width] with the same B, T and N"
        )
    for name, tensor in others.items():
        if tensor is not None and tensor.shape != pred_masks.shape[:3]:
            raise ValueError(f"{name} {tuple(tensor.shape)}: must be [B,T,N] {tuple(pred_masks.shape[:3])}")
