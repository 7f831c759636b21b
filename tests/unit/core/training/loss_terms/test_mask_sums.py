"""Sums over pixels in pieces against the plain form, and what they keep for backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sam2vt.core.model.tracking.heads import DecoderStep
from sam2vt.core.training.loss import SAM2TrainingLoss
from sam2vt.core.training.loss_terms import mask_sums
from sam2vt.core.training.loss_terms.mask_sums import DIFFERENTIABLE, pixel_sums, with_gradient

from ...operations import Operations

ALL = (*DIFFERENTIABLE, "intersection", "predicted")


def plain(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """As the formulas say, of masks [K,H,W]."""
    t, p = targets.to(logits.dtype), logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, t, reduction="none")
    wrong = p * (1 - t) + (1 - p) * t
    return {
        "cross_entropy": entropy.sum((1, 2)),
        "focal": ((0.25 * t + 0.75 * (1 - t)) * wrong**2 * entropy).sum((1, 2)),
        "overlap": (p * t).sum((1, 2)),
        "area": p.sum((1, 2)),
        "intersection": ((logits > 0) & (t > 0.5)).sum((1, 2)).to(logits.dtype),
        "predicted": (logits > 0).sum((1, 2)).to(logits.dtype),
    }


def case(small: tuple[int, int], large: tuple[int, int], soft: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, *small, generator=generator, dtype=torch.float64) * 4
    logits[0] = 0  # what nothing has been decided of is not predicted
    targets = torch.rand(5, *large, generator=generator, dtype=torch.float64)
    return logits, targets if soft else targets > 0.6


SIZES = [((4, 6), (16, 24)), ((1, 2), (4, 8)), ((8, 8), (8, 8)), ((5, 4), (15, 12)), ((6, 6), (4, 5))]


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize(("small", "large"), SIZES)
@pytest.mark.parametrize("pixels", [1, 1 << 18])
def test_values_and_gradients_are_those_of_the_plain_form(monkeypatch, small, large, soft, pixels):
    monkeypatch.setattr(mask_sums, "PIXELS_AT_ONCE", {"cpu": pixels, "cuda": pixels})
    logits, targets = case(small, large, soft)
    measured = pixel_sums(logits, targets, ALL)
    for mask in range(3):
        ours, theirs = (logits[:, mask].clone().requires_grad_() for _ in range(2))
        expected = plain(mask_sums.upsample(theirs[:, None], large)[:, 0], targets)
        for name in ALL:
            assert torch.allclose(measured[name][:, mask], expected[name], atol=1e-12), name
        known = {name: values[:, mask] for name, values in measured.items()}
        found = with_gradient(ours, targets, known)
        weights = torch.rand(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        for sums in (found, expected):
            sum((w * sums[name]).sum() for w, name in zip(weights, DIFFERENTIABLE)).backward()
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-12)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_each_sum_has_its_gradient(name):
    logits, targets = case((4, 6), (16, 24), soft=False)
    known = {key: values[:, 0] for key, values in pixel_sums(logits, targets, ALL).items()}

    def of(masks):
        return with_gradient(
            masks, targets, plain(mask_sums.upsample(masks[:, None], (16, 24))[:, 0], targets)
        )[name]

    assert torch.equal(
        of(logits[:, 0]), plain(mask_sums.upsample(logits[:, :1], (16, 24))[:, 0], targets)[name]
    )
    assert with_gradient(logits[:, 0], targets, known)[name].requires_grad is False
    assert torch.autograd.gradcheck(of, (logits[1:, 0].repeat(2, 1, 1)[:5].requires_grad_(),))


def test_no_mask_at_all():
    logits, targets = case((4, 6), (16, 24), soft=False)
    none = pixel_sums(logits[:0], targets[:0], ALL)
    assert {name: tuple(values.shape) for name, values in none.items()} == dict.fromkeys(ALL, (0, 3))
    masks = logits[:0, 0].clone().requires_grad_()
    with_gradient(masks, targets[:0], {name: values[:, 0] for name, values in none.items()})[
        "area"
    ].sum().backward()
    assert masks.grad.shape == masks.shape


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (16, 5)])
def test_bringing_down_by_four_is_what_growing_passes_back(size):
    large = [4 * side for side in size]
    gradient = torch.randn(3, *large, dtype=torch.float64)
    expected = torch.ops.aten.upsample_bilinear2d_backward(gradient[:, None], large, [3, 1, *size], False)
    assert torch.allclose(mask_sums._downsample(gradient, size), expected[:, 0], atol=1e-12)


def test_sure_and_wrong_pixels_keep_their_cost_in_float32():
    logits = torch.tensor([-90.0, -30.0, -5.0, 5.0, 30.0, 90.0]).view(1, 1, 1, 6)
    for there in (True, False):
        targets = torch.full((1, 1, 6), there)
        found = pixel_sums(logits, targets, ("cross_entropy", "focal"))
        expected = plain(logits[0].double(), targets)
        assert found["cross_entropy"].item() == pytest.approx(expected["cross_entropy"].item(), rel=1e-6)
        assert found["focal"].item() == pytest.approx(expected["focal"].item(), rel=1e-6)


def loss_case(size: int = 64) -> dict[str, Any]:
    """A clip of 4 frames with 3 objects, three masks of each, as the decoder gives them."""
    generator = torch.Generator().manual_seed(0)
    small, frames, objects = size // 4, 4, 3
    steps = [
        DecoderStep(
            torch.stack([torch.zeros(objects), torch.full((objects,), t), torch.arange(objects)], 1).long(),
            torch.randn(objects, 3, small, small, generator=generator).requires_grad_(),
            torch.rand(objects, 3, generator=generator).requires_grad_(),
            torch.randn(objects, 1, generator=generator).requires_grad_(),
        )
        for t in range(frames)
    ]
    pred = torch.stack([step.multimasks[:, 0] for step in steps])[None]
    targets = torch.rand(1, frames, objects, size, size, generator=generator) > 0.7
    scored = torch.ones(1, frames, objects, dtype=torch.bool)
    return {"pred_masks": pred, "target_masks": targets, "scored": scored, "steps": steps}


def test_few_bytes_a_pixel_are_kept_for_backward():
    """SAM 2's own loss keeps 36."""
    given, kept = loss_case(128), {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = SAM2TrainingLoss(focal_weight=20.0)(**given)
    assert loss.requires_grad
    assert sum(kept.values()) / given["target_masks"].numel() < 2


def test_the_host_never_waits_for_a_value():
    given = loss_case()
    loss = SAM2TrainingLoss(focal_weight=20.0).train()
    with Operations(refuse=AssertionError):
        total, _ = loss(**given, return_components=True)
        total.backward()
    with pytest.raises(AssertionError, match="nonzero"), Operations(refuse=AssertionError):
        given["target_masks"].nonzero()
