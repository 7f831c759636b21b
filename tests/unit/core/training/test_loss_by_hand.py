"""The loss of two pixels, worked out by hand, and what is handed from a batch to the loss."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sam2vt.core.model.tracking.heads import DecoderStep
from sam2vt.core.training.loss import SAM2TrainingLoss, batch_loss
from sam2vt.core.training.loss_terms.terms import TERMS

LN2 = math.log(2)
# Two pixels at 1/2, one of them of the object: overlap 1/2, areas 1 and 1.
HALF = {"bce": LN2, "dice": 0.5, "iou": 2 / 3, "temporal": 0.0}


def two_pixels(num_frames: int = 1) -> tuple[Tensor, Tensor]:
    target = torch.tensor([True, False]).expand(1, num_frames, 1, 1, 2)
    return torch.zeros(1, num_frames, 1, 1, 2), target


def components(loss: SAM2TrainingLoss, *given: Any, **others: Any) -> dict[str, float]:
    return {name: value.item() for name, value in loss(*given, return_components=True, **others)[1].items()}


def call(masks: Tensor, frame: int = 0) -> DecoderStep:
    """A call of the decoder on the one object of a frame; masks [M,h,w]."""
    return DecoderStep(torch.tensor([[0, frame, 0]]), masks[None], None, None)


def test_two_pixels_by_hand() -> None:
    loss = SAM2TrainingLoss(2.0, 1.0, 0.5, smooth=1e-30)
    assert components(loss, *two_pixels()) == pytest.approx({**HALF, "total": 2 * LN2 + 0.5 + 1 / 3})
    # Smoothing of 1: 1 - (1 + 1) / (2 + 1), and 1 - (1/2 + 1) / (3/2 + 1).
    smooth = components(SAM2TrainingLoss(smooth=1.0), *two_pixels())
    assert (smooth["dice"], smooth["iou"]) == pytest.approx((1 / 3, 2 / 5))


def test_the_numbers_of_an_update_divide_its_batches() -> None:
    loss, update = SAM2TrainingLoss(smooth=1e-30), {"valid": 4, "present": 2, "pairs": 1}
    got = components(loss, *two_pixels(), update=update)
    assert got == pytest.approx(
        {"bce": LN2 / 4, "dice": 1 / 4, "iou": 1 / 3, "temporal": 0, "total": LN2 / 4 + 1 / 4 + 1 / 6}
    )


def test_of_several_masks_the_best_one_counts_by_the_terms_that_have_a_weight() -> None:
    """Dice prefers the mask that covers both pixels, cross entropy the one that is unsure."""
    pred, target = two_pixels()
    unsure, both = torch.zeros(1, 2), torch.full((1, 2), 9.0)
    for weights, best in (((1.0, 0.0), unsure), ((0.0, 1.0), both)):
        loss = SAM2TrainingLoss(*weights, iou_weight=0.0, temporal_weight=0.0, smooth=1e-30)
        for order in ((unsure, both), (both, unsure)):
            got = components(loss, pred, target, steps=[call(torch.stack(order))])
            alone = components(loss, pred, target, steps=[call(best[None])])
            assert got == pytest.approx(alone)
    # Without any weight the first one is reported.
    loss = SAM2TrainingLoss(0.0, 0.0, 0.0, 0.0, smooth=1e-30)
    got = components(loss, pred, target, steps=[call(torch.stack((unsure, both)))])
    assert {name: got[name] for name in (*HALF, "total")} == pytest.approx({**HALF, "total": 0.0})


def test_a_term_without_weight_decides_nothing_where_it_is_infinite() -> None:
    """As cross entropy is where half precision overflowed."""
    pred, target = two_pixels()
    unsure, lost = torch.zeros(1, 2), torch.full((1, 2), -math.inf)
    loss = SAM2TrainingLoss(0.0, 1.0, 0.0, 0.0, smooth=1e-30)
    got = components(loss, pred, target, steps=[call(torch.stack((lost, unsure)))])
    assert (got["dice"], got["total"]) == pytest.approx((0.5, 0.5))
    got = components(loss, lost.view_as(pred), target)
    assert (got["bce"], got["dice"], got["total"]) == pytest.approx((math.inf, 1, 1))


def test_the_loss_is_computed_where_its_inputs_are_whatever_the_default_device_is() -> None:
    pred, target = two_pixels(num_frames=2)
    steps = [call(torch.stack((torch.zeros(1, 2), torch.full((1, 2), 9.0))))]
    loss = SAM2TrainingLoss()
    expected = components(loss, pred, target), components(loss, pred, target, steps=steps)
    with torch.device("meta"):
        assert (components(loss, pred, target), components(loss, pred, target, steps=steps)) == expected


def test_calls_of_one_entry_are_added_and_only_entries_of_calls_count() -> None:
    pred, target = two_pixels(num_frames=2)
    calls = [call(torch.zeros(1, 1, 2), frame=1)] * 2
    got = components(SAM2TrainingLoss(smooth=1e-30), pred, target, steps=calls)
    assert (got["bce"], got["dice"]) == pytest.approx((2 * LN2, 1.0))
    scored = torch.ones(1, 2, 1, dtype=torch.bool)
    got = components(SAM2TrainingLoss(smooth=1e-30), pred, target, steps=calls, scored=scored)
    assert (got["bce"], got["dice"]) == pytest.approx((LN2, 0.5))


def test_arguments_take_precedence_over_the_models_dict() -> None:
    pred, target = two_pixels(num_frames=2)
    pred[:, 1] = 9.0
    first = torch.tensor([[[True], [False]]])
    out = {"pred_masks": pred, "scored": ~first, "steps": [call(torch.zeros(1, 1, 2))]}
    loss = SAM2TrainingLoss(smooth=1e-30)
    got = components(loss, out, target, scored=first)
    assert got["bce"] == pytest.approx(LN2)
    own = components(loss, {**out, "scored": first}, target)
    assert own["bce"] == pytest.approx(LN2)
    assert components(loss, {**out, "scored": first}, target, steps=[])["bce"] == 0
    got = components(loss, {"pred_masks": pred, "scored": first}, target)
    assert got["bce"] == pytest.approx(LN2)


def test_points_are_drawn_in_training_alone() -> None:
    pred = torch.zeros(1, 1, 1, 8, 8)
    target = torch.zeros(1, 1, 1, 8, 8, dtype=torch.bool)
    target[..., :3, :] = True
    steps = [call(torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0)))]
    every, drawn = SAM2TrainingLoss(), SAM2TrainingLoss(num_points=4)
    whole = components(every, pred, target, steps=steps)
    assert components(drawn.eval(), pred, target, steps=steps) == whole
    assert components(drawn.train(), pred, target, steps=steps) != whole


def test_the_true_iou_is_that_of_the_masks_at_the_targets_size() -> None:
    """Two columns become four, the left half of two rows; the object is three pixels of the first row."""
    pred = torch.tensor([9.0, -9.0]).view(1, 1, 1, 1, 2)
    target = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0]], dtype=torch.bool).view(1, 1, 1, 2, 4)
    loss = SAM2TrainingLoss(iou_head_weight=1.0)
    given = {"iou_predictions": torch.ones(1, 1, 1)}
    assert components(loss, pred, target, **given)["iou_head"] == pytest.approx(1 - 2 / 5)
    step = DecoderStep(torch.tensor([[0, 0, 0]]), pred[0], torch.ones(1, 1), None)
    assert components(loss, pred, target, steps=[step])["iou_head"] == pytest.approx(1 - 2 / 5)
    # At the masks' size a pixel is the object's if more than half of it is.
    target[..., 1, 0] = True
    low = SAM2TrainingLoss(iou_head_weight=1.0, resolution="low")
    assert components(low, pred, target, steps=[step])["iou_head"] == pytest.approx(0)
    target[..., 1, 3] = target[..., 0, 3] = True
    assert components(low, pred, target, steps=[step])["iou_head"] == pytest.approx(1 / 2)


def test_a_head_term_that_uses_no_true_ious_gets_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(scores: Tensor, present: Tensor, true_ious: Tensor) -> Tensor:
        return scores.flatten() + true_ious.sum(1)

    monkeypatch.setitem(TERMS, "presence", replace(TERMS["presence"], of=of))
    loss = SAM2TrainingLoss(presence_weight=1.0)
    given = {"object_score_logits": torch.full((1, 1, 1), 3.0)}
    assert components(loss, *two_pixels(), **given)["presence"] == pytest.approx(3)


def test_one_point_per_mask_is_enough() -> None:
    """A mask that is certain of an object that fills the frame is right at any point."""
    pred, target = torch.full((1, 1, 1, 4, 4), 30.0), torch.ones(1, 1, 1, 8, 8, dtype=torch.bool)
    step = DecoderStep(torch.tensor([[0, 0, 0]]), pred[0], torch.zeros(1, 1), None)
    got = components(SAM2TrainingLoss(num_points=1, iou_head_weight=1.0), pred, target, steps=[step])
    assert (got["bce"], got["dice"], got["iou_head"]) == pytest.approx((0, 0, 1), abs=1e-6)


@pytest.mark.parametrize(
    ("masks", "targets"),
    [((1, 1, 1, 2), (1, 1, 1, 2)), ((1, 1, 1, 1, 2), (1, 1, 1, 2)), ((1,) * 6, (1,) * 6)]
    + [((1, 1, 1, 1, 2), (2, 1, 1, 1, 2)), ((1, 1, 1, 1, 2), (1, 1, 2, 1, 2))],
)
def test_masks_of_other_shapes_are_refused(masks: tuple[int, ...], targets: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="both must be"):
        SAM2TrainingLoss()(torch.zeros(masks), torch.zeros(targets))


@pytest.mark.parametrize("name", ["valid_masks", "scored", "iou_predictions", "object_score_logits"])
def test_other_values_have_one_per_entry(name: str) -> None:
    pred, target = two_pixels(num_frames=2)
    SAM2TrainingLoss()(pred, target, **{name: torch.ones(1, 2, 1)})
    with pytest.raises(ValueError, match=rf"{name} \(1, 2, 2\): must be \[B,T,N\] \(1, 2, 1\)"):
        SAM2TrainingLoss()(pred, target, **{name: torch.ones(1, 2, 2)})


def test_a_batch_is_handed_to_the_model_and_on_to_the_loss() -> None:
    pred, target = two_pixels()
    asked: list[tuple[Any, ...]] = []

    def model(images: Any, masks: Any, prompts: Any, **seen: Any) -> dict[str, Any]:
        asked.append((images, masks, prompts, seen))
        return {"pred_masks": pred}

    valid = torch.ones(1, 1, 1, dtype=torch.bool)
    batch: dict[str, Any] = {"images": "images", "masks": target, "valid_masks": valid, "prompts": "prompts"}
    loss = SAM2TrainingLoss(smooth=1e-30)
    total, values, out = batch_loss(model, loss, batch)
    assert total.item() == pytest.approx(LN2 + 0.5 + 1 / 3)
    assert values["bce"].item() == pytest.approx(LN2)
    assert out["pred_masks"] is pred
    assert asked == [("images", target, "prompts", {"valid_masks": valid, "features": None})]
    numbers = {"valid": 4, "present": 1, "pairs": 0}
    del batch["images"]
    _, values, _ = batch_loss(model, loss, {**batch, "features": "cached", "update": numbers})
    assert values["bce"].item() == pytest.approx(LN2 / 4)
    assert asked[1] == (None, target, "prompts", {"valid_masks": valid, "features": "cached"})
    _, values, _ = batch_loss(model, loss, {**batch, "valid_masks": ~valid})
    assert values["bce"].item() == 0
