"""The loss at fewer places: at the masks' own size and at drawn points."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sam2vt.core.model.tracking.heads import DecoderStep
from sam2vt.core.training.loss import SAM2TrainingLoss
from sam2vt.core.training.loss_terms.places import at_points, draw_points

from ...operations import Operations

SIZE, SMALL = 32, 8
WEIGHTS = {"iou_weight": 0.0, "temporal_weight": 0.0, "presence_weight": 0.0, "smooth": 1.0}


def discs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [2,3,h,w] of shifted discs, and targets bool [2,H,W]."""
    torch.manual_seed(0)
    grid = torch.stack(torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")).double()
    centres = torch.tensor([[12.0, 14.0], [18.0, 15.0]])
    targets = (grid - centres[..., None, None]).norm(dim=1) < 9
    shifts = torch.tensor([0.0, 4.0, -5.0])
    distances = (grid[None, None] - (centres[:, None] + shifts[None, :, None])[..., None, None]).norm(dim=2)
    logits = F.avg_pool2d(9 - distances, SIZE // SMALL)
    return logits.to(dtype).requires_grad_(), targets


def loss_of(masks: torch.Tensor, targets: torch.Tensor, train: bool = True, **settings):
    """Total and components of one decoder step over objects of one frame."""
    loss = SAM2TrainingLoss(**{**WEIGHTS, **settings}).train(train)
    number = len(masks)
    index = torch.stack([torch.zeros(number), torch.zeros(number), torch.arange(number)], 1).long()
    step = DecoderStep(
        index, masks, masks.new_full((number, masks.shape[1]), 0.5), masks.new_zeros(number, 1)
    )
    return loss(masks.detach()[None, None, :, 0], targets[None, None], None, True, steps=[step])


def test_low_measures_at_the_masks_size() -> None:
    masks, targets = discs()
    _, found = loss_of(masks, targets, resolution="low", focal_weight=1.0)
    pooled = F.avg_pool2d(targets[:, None].double(), SIZE // SMALL)
    best = masks[:, :1].detach()  # the disc that is not shifted
    probability = best.sigmoid()
    entropy = F.binary_cross_entropy(probability, pooled)
    overlap, area = (probability * pooled).sum((1, 2, 3)), (probability + pooled).sum((1, 2, 3))
    assert found["bce"].item() == pytest.approx(entropy.item())
    assert found["dice"].item() == pytest.approx((1 - (2 * overlap + 1) / (area + 1)).mean().item())
    both = (overlap + 1) / (area - overlap + 1)
    assert found["iou"].item() == pytest.approx((1 - both).mean().item())
    error = probability * (1 - pooled) + (1 - probability) * pooled
    entropies = F.binary_cross_entropy(probability, pooled, reduction="none")
    focal = (0.25 * pooled + 0.75 * (1 - pooled)) * error.square() * entropies
    assert found["focal"].item() == pytest.approx(focal.mean().item())
    there, predicted = pooled > 0.5, masks.detach() > 0
    ious = (there & predicted).sum((2, 3)) / (there | predicted).sum((2, 3))
    assert found["iou_head"].item() == pytest.approx((ious - 0.5).abs().mean().item())


@pytest.mark.parametrize(
    ("settings", "most"), [({"resolution": "low"}, 4), ({"num_points": 16}, 4), ({}, 1000)]
)
def test_nothing_grows_to_full_size_but_what_targets_are_brought_down_from(settings, most) -> None:
    masks, targets = discs(torch.float32)
    made = []

    def see(function, _, result) -> None:
        tensors = result if isinstance(result, (list, tuple)) else [result]
        floats = [x for x in tensors if isinstance(x, torch.Tensor) and x.is_floating_point()]
        made.extend(x for x in floats if x.shape[-2:] == (SIZE, SIZE) and not function.is_view)

    with Operations(see):
        loss_of(masks, targets, **settings)[0].backward()
    assert len(made) <= most
    assert settings or len(made) > 10


def test_points_are_drawn_where_masks_are_uncertain_and_anywhere() -> None:
    masks, _ = discs()
    torch.manual_seed(1)
    points = draw_points(masks.detach(), 400)
    assert points.shape == (2, 400, 2)
    assert points.min() >= 0
    assert points.max() <= 1
    grid = (2 * points - 1)[:, None].double()
    logits = (
        F.grid_sample(masks.detach(), grid, padding_mode="border", align_corners=False).abs().amin(1)[:, 0]
    )
    uncertain, anywhere = logits[:, :300], logits[:, 300:]
    assert uncertain.mean() < 0.5 * anywhere.mean()
    assert uncertain.max() < anywhere.max()
    torch.manual_seed(1)
    assert torch.equal(draw_points(masks.detach(), 400), points)


def test_masks_and_targets_are_seen_at_the_same_points() -> None:
    """A mask that says its target exactly, at whatever point."""
    _, targets = discs()
    masks = torch.where(targets, 30.0, -30.0).double()[:, None]
    torch.manual_seed(0)
    (logits, there), _ = at_points(masks, targets, 500)
    sure = logits[:, 0].abs() > 29  # not between two pixels that differ
    assert sure.double().mean() > 0.2
    assert torch.equal((logits[:, 0] > 0)[sure], there[sure])


@pytest.mark.parametrize("value", [-2.0, 3.0])
def test_points_of_a_constant_mask_are_the_whole_of_it(value: float) -> None:
    targets = torch.ones(2, SIZE, SIZE, dtype=torch.bool)
    masks = torch.full((2, 1, SMALL, SMALL), value, dtype=torch.float64)
    _, whole = loss_of(masks, targets, smooth=1e-9)
    _, points = loss_of(masks, targets, num_points=50, smooth=1e-9)
    for name in ("bce", "dice"):
        assert points[name].item() == pytest.approx(whole[name].item(), rel=1e-6)


@pytest.mark.parametrize("settings", [{"resolution": "low"}, {"num_points": 50}])
def test_soft_targets_keep_their_values(settings) -> None:
    targets = torch.full((2, SIZE, SIZE), 0.3, dtype=torch.float64)
    masks = torch.full((2, 1, SMALL, SMALL), 0.7, dtype=torch.float64)
    weights = {"focal_weight": 1.0, "smooth": 1e-9}
    _, whole = loss_of(masks, targets, **weights)
    _, found = loss_of(masks, targets, **weights, **settings)
    for name in ("bce", "dice", "iou", "focal"):
        assert found[name].item() == pytest.approx(whole[name].item(), rel=1e-6)


@pytest.mark.parametrize("settings", [{"resolution": "low"}, {"num_points": 64}])
def test_only_the_best_mask_is_pulled_and_a_seed_repeats_it(settings) -> None:
    masks, targets = discs()
    best = torch.tensor([2, 1])
    order = [[1, 2, 0], [1, 0, 2]]  # the disc that is not shifted comes last, and second
    masks = torch.stack([of_one[places] for of_one, places in zip(masks.detach(), order)]).requires_grad_()

    def pull() -> torch.Tensor:
        torch.manual_seed(0)
        return torch.autograd.grad(loss_of(masks, targets, **settings)[0], masks)[0]

    gradient = pull()
    assert torch.isfinite(gradient).all()
    pulled = gradient.abs().sum((2, 3)) > 0
    assert torch.equal(pulled, F.one_hot(best, 3).bool())
    assert torch.equal(pull(), gradient)


def test_the_true_iou_beside_points_is_that_of_the_masks_size() -> None:
    masks, targets = discs()
    low, points = (loss_of(masks, targets, **kw)[1] for kw in ({"resolution": "low"}, {"num_points": 16}))
    assert points["iou_head"] == low["iou_head"]
    assert points["bce"] != low["bce"]


def test_points_pull_where_the_whole_pulls() -> None:
    masks, targets = discs()
    whole = torch.autograd.grad(loss_of(masks, targets)[0], masks)[0][:, 0]
    torch.manual_seed(0)
    draws = [
        torch.autograd.grad(loss_of(masks, targets, num_points=64)[0], masks)[0][:, 0] for _ in range(40)
    ]
    mean = torch.stack(draws).mean(0)
    assert torch.isfinite(mean).all()
    assert F.cosine_similarity(mean.flatten(), whole.flatten(), dim=0) > 0.7


@pytest.mark.parametrize("settings", [{"resolution": "low"}, {"num_points": 64}])
def test_what_lowers_it_lowers_the_whole(settings) -> None:
    masks, targets = discs()
    masks = torch.zeros_like(masks).requires_grad_()
    optimizer = torch.optim.Adam([masks], lr=0.2)
    before = loss_of(masks, targets)[1]
    torch.manual_seed(0)
    for _ in range(60):
        optimizer.zero_grad()
        loss_of(masks, targets, **settings)[0].backward()
        optimizer.step()
    after = loss_of(masks, targets)[1]
    assert after["bce"] < 0.3 * before["bce"]
    assert after["dice"] < 0.3 * before["dice"]


def test_a_validation_looks_at_every_pixel() -> None:
    masks, targets = discs()
    _, whole = loss_of(masks, targets, train=False)
    _, points = loss_of(masks, targets, train=False, num_points=16)
    _, low = loss_of(masks, targets, train=False, resolution="low")
    assert points == whole
    assert low["bce"] != whole["bce"]
