"""The loss against plain loops over entries, and at its edges."""

from __future__ import annotations

import inspect
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.fx.experimental import _config as fx_config

from sam2vt.core.model.tracking.heads import NO_OBJECT_LOGIT, NOT_TRACKED_LOGIT
from sam2vt.core.training.loss import SAM2TrainingLoss
from sam2vt.errors import ConfigError, DataError

ALL_WEIGHTS = {
    "bce_weight": 0.7,
    "dice_weight": 1.3,
    "iou_weight": 0.4,
    "temporal_weight": 0.9,
    "smooth": 1e-3,
    "iou_head_weight": 0.6,
    "presence_weight": 0.8,
    "focal_weight": 2.0,
}


@dataclass
class DecoderCall:
    index: torch.Tensor
    multimasks: torch.Tensor
    ious: torch.Tensor
    object_score_logits: torch.Tensor


def random_case(seed=0, shape=(2, 4, 3), size=(8, 10), target_size=None, dtype=torch.float64):
    """Logits, boolean targets (some empty), valid and scored masks, none of them uniform."""
    g = torch.Generator().manual_seed(seed)
    pred = torch.randn(*shape, *size, generator=g, dtype=dtype) * 2
    target = torch.rand(*shape, *(target_size or size), generator=g) > 0.6
    target[torch.rand(shape, generator=g) < 0.25] = False
    valid = torch.rand(shape, generator=g) > 0.25
    scored = torch.rand(shape, generator=g) > 0.2
    return pred, target, valid, scored


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def mask_terms(logits, target, smooth):
    """bce, focal, dice and soft Jaccard of one mask, in plain numpy."""
    p = sigmoid(logits)
    ce = -(target * np.log(p) + (1 - target) * np.log(1 - p))
    p_true = p * target + (1 - p) * (1 - target)
    alpha = 0.25 * target + 0.75 * (1 - target)
    overlap, area = (p * target).sum(), p.sum() + target.sum()
    return {
        "bce": ce.mean(),
        "focal": (alpha * (1 - p_true) ** 2 * ce).mean(),
        "dice": 1 - (2 * overlap + smooth) / (area + smooth),
        "iou": 1 - (overlap + smooth) / (area - overlap + smooth),
    }


def hard_iou(logits, target):
    union = ((logits > 0) | (target > 0.5)).sum()
    return ((logits > 0) & (target > 0.5)).sum() / max(union, 1)


def upsample(masks, size):
    return F.interpolate(masks, size, mode="bilinear", align_corners=False)


def reference(pred, target, valid, scored, weights, ious=None, scores=None, steps=None):
    """Components by a loop over single entries; `pred` and `target` of one size."""
    counted = (valid & scored).numpy()
    pred, full_target = pred.detach().numpy(), target.double().numpy()
    smooth = weights["smooth"]
    sums = dict.fromkeys(["bce", "focal", "dice", "iou", "temporal", "iou_head", "presence"], 0.0)
    num_present = num_pairs = 0
    for b, t, n in np.argwhere(counted):
        there = full_target[b, t, n].any()
        num_present += there
        calls = []
        if steps is None:
            calls.append((pred[b, t, n][None], [ious[b, t, n].item()], scores[b, t, n].item()))
        for step in steps or []:
            for row, masks, step_ious, score in zip(
                step.index.tolist(), step.multimasks, step.ious, step.object_score_logits
            ):
                if row == [b, t, n]:
                    masks = upsample(masks[None].detach(), full_target.shape[-2:])[0].numpy()
                    calls.append((masks, step_ious.tolist(), score.item()))
        for masks, step_ious, score in calls:
            candidates = [mask_terms(mask, full_target[b, t, n], smooth) for mask in masks]
            for c in candidates:
                c.update({} if there else {"focal": 0.0, "dice": 0.0, "iou": 0.0})
            best = min(candidates, key=lambda c: sum(weights[f"{k}_weight"] * v for k, v in c.items()))
            for name, value in best.items():
                sums[name] += value
            errors = [abs(i - hard_iou(m, full_target[b, t, n])) for i, m in zip(step_ious, masks)]
            sums["iou_head"] += np.mean(errors) * there
            sums["presence"] += -np.log(sigmoid(score) if there else 1 - sigmoid(score))
        if t + 1 < counted.shape[1] and counted[b, t + 1, n]:
            num_pairs += 1
            change = sigmoid(pred[b, t + 1, n]) - sigmoid(pred[b, t, n])
            sums["temporal"] += np.abs(change - (full_target[b, t + 1, n] - full_target[b, t, n])).mean()
    means = {
        name: value
        / max(
            {"bce": counted.sum(), "presence": counted.sum(), "temporal": num_pairs}.get(name, num_present), 1
        )
        for name, value in sums.items()
    }
    means["total"] = sum(weights[f"{name}_weight"] * value for name, value in means.items())
    return means


def random_steps(counted_in, seed, size=(4, 5), num_masks=(3, 1, 1), dtype=torch.float64):
    """A first call on every scored entry, then clicks on some of them again."""
    g = torch.Generator().manual_seed(seed)
    steps = []
    rows = counted_in.nonzero()
    for m in num_masks:
        k = len(rows)
        steps.append(
            DecoderCall(
                rows,
                (torch.randn(k, m, *size, generator=g, dtype=dtype) * 2).requires_grad_(),
                torch.rand(k, m, generator=g, dtype=dtype).requires_grad_(),
                torch.randn(k, 1, generator=g, dtype=dtype).requires_grad_(),
            )
        )
        rows = rows[::2]
    return steps


def assert_components(got, want, names):
    for name in names:
        assert got[name].item() == pytest.approx(want[name], abs=1e-6), name


def test_signature():
    init = inspect.signature(SAM2TrainingLoss.__init__).parameters
    defaults = {name: p.default for name, p in init.items() if name != "self"}
    assert list(defaults.items())[:5] == [
        ("bce_weight", 1.0),
        ("dice_weight", 1.0),
        ("iou_weight", 0.5),
        ("temporal_weight", 0.1),
        ("smooth", 1e-6),
    ]
    forward = list(inspect.signature(SAM2TrainingLoss.forward).parameters)
    assert forward[:5] == ["self", "pred_masks", "target_masks", "valid_masks", "return_components"]
    loss = SAM2TrainingLoss(0.1, 0.2, 0.3, 0.4, 0.5, focal_weight=20.0)
    assert (loss.bce_weight, loss.smooth, loss.focal_weight) == (0.1, 0.5, 20.0)


@pytest.mark.parametrize("seed", range(5))
def test_equals_plain_loops_on_final_masks(seed):
    pred, target, valid, scored = random_case(seed)
    g = torch.Generator().manual_seed(seed)
    ious = torch.rand(valid.shape, generator=g, dtype=torch.float64)
    scores = torch.randn(valid.shape, generator=g, dtype=torch.float64)
    loss = SAM2TrainingLoss(**ALL_WEIGHTS)
    total, got = loss(
        pred, target, valid, True, iou_predictions=ious, object_score_logits=scores, scored=scored
    )
    want = reference(pred, target, valid, scored, ALL_WEIGHTS, ious, scores)
    assert set(got) == set(want)
    assert_components(got, want, want)
    assert total.item() == pytest.approx(want["total"], abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_equals_plain_loops_on_steps(seed):
    """Best of three masks, click steps added up, masks upsampled; entries that do not count left out."""
    pred, target, valid, scored = random_case(seed, target_size=(8, 10))
    steps = random_steps(scored, seed)
    loss = SAM2TrainingLoss(**ALL_WEIGHTS)
    total, got = loss(pred, target, valid, True, scored=scored, steps=steps)
    want = reference(pred, target, valid, scored, ALL_WEIGHTS, steps=steps)
    assert set(got) == set(want)
    assert_components(got, want, want)
    assert total.item() == pytest.approx(want["total"], abs=1e-6)


def test_steps_alone_say_what_is_scored():
    pred, target, valid, scored = random_case(3)
    steps = random_steps(scored, 3)
    loss = SAM2TrainingLoss(**ALL_WEIGHTS)
    assert loss(pred, target, valid, steps=steps).item() == pytest.approx(
        loss(pred, target, valid, steps=steps, scored=scored).item(), abs=1e-12
    )


def test_only_the_best_mask_gets_a_gradient():
    target = torch.zeros(1, 1, 1, 8, 8, dtype=torch.bool)
    target[..., 2:6, 2:6] = True
    right = torch.where(target[0, 0, 0, ::2, ::2], 3.0, -3.0)
    masks = torch.stack([-right, right, torch.zeros(4, 4)])[None].requires_grad_()
    ious = torch.full((1, 3), 0.5, requires_grad=True)
    step = DecoderCall(torch.tensor([[0, 0, 0]]), masks, ious, torch.zeros(1, 1))
    SAM2TrainingLoss()(torch.zeros(1, 1, 1, 4, 4), target, steps=[step]).backward()
    assert (masks.grad[0, 1] != 0).any()
    assert (masks.grad[0, [0, 2]] == 0).all()
    # The IoU head learns from all masks: too high for the wrong one, too low for the right one.
    assert ious.grad[0, 0] > 0
    assert ious.grad[0, 1] < 0
    assert torch.allclose(ious.grad.abs(), torch.full((1, 3), 1 / 3))


def test_best_mask_follows_the_weights():
    """With only BCE the confident half wins, with only Jaccard the full mask with a wrong border does."""
    target = torch.zeros(1, 1, 1, 6, 6, dtype=torch.bool)
    target[..., 2, 2] = True
    nothing = torch.full((6, 6), -4.0)
    too_large = nothing.clone()
    too_large[2, 1:4] = 6.0
    masks = torch.stack([nothing, too_large])[None]

    def winner(**weights):
        masks.grad = None
        step = DecoderCall(
            torch.tensor([[0, 0, 0]]), masks.requires_grad_(), torch.zeros(1, 2), torch.zeros(1, 1)
        )
        zero = {"bce_weight": 0.0, "dice_weight": 0.0, "iou_weight": 0.0, "iou_head_weight": 0.0}
        SAM2TrainingLoss(**{**zero, **weights})(torch.zeros(1, 1, 1, 6, 6), target, steps=[step]).backward()
        return [bool((grad != 0).any()) for grad in masks.grad[0]]

    assert winner(bce_weight=1.0) == [True, False]
    assert winner(iou_weight=1.0) == [False, True]


def test_click_steps_are_added():
    pred, target, _, _ = random_case(1, shape=(1, 2, 2))
    target[..., :2, :2] = True
    everywhere = torch.ones(1, 2, 2, dtype=torch.bool)
    first = random_steps(everywhere, 1, num_masks=(1,))[0]
    loss = SAM2TrainingLoss(temporal_weight=0.0)
    once = loss(pred, target, steps=[first])
    assert loss(pred, target, steps=[first] * 3).item() == pytest.approx(3 * once.item())


def test_steps_measured_together_give_what_each_gives_alone():
    """Steps of three masks and of one, without IoUs, without objects, and NaN where nothing counts."""
    pred, target, valid, scored = random_case(4)
    nowhere = torch.zeros_like(scored)
    steps = [*random_steps(scored, 5, num_masks=(3, 1, 3, 1)), *random_steps(nowhere, 6, num_masks=(3,))]
    steps[1] = DecoderCall(steps[1].index, steps[1].multimasks, None, steps[1].object_score_logits)
    for step in steps:
        away = ~(valid & scored)[tuple(step.index.unbind(1))]
        with torch.no_grad():
            step.multimasks[away] = float("nan")
    leaves = [each for step in steps for each in (step.multimasks, step.ious) if each is not None]
    loss = SAM2TrainingLoss(**{**ALL_WEIGHTS, "temporal_weight": 0.0})
    together = loss(pred, target, valid, scored=scored, steps=steps)
    alone = sum(loss(pred, target, valid, scored=scored, steps=[step]) for step in steps)
    assert together.item() == pytest.approx(alone.item(), abs=1e-12)
    assert together > 0
    gradients = (torch.autograd.grad(total, leaves, allow_unused=True) for total in (together, alone))
    for one, other in zip(*gradients):
        assert torch.allclose(one, other, atol=1e-12)
        assert one.isfinite().all()


def test_steps_gradient_equals_a_direct_graph():
    """The pass that picks the best masks must not change the gradient of the picked ones."""
    pred, target, valid, scored = random_case(2)
    steps = random_steps(scored, 2)
    weights = {**ALL_WEIGHTS, "temporal_weight": 0.0}
    SAM2TrainingLoss(**weights)(pred, target, valid, scored=scored, steps=steps).backward()
    counted = valid & scored
    num_present = (counted & target.flatten(3).any(3)).sum()
    for step in steps:
        for k, (b, t, n) in enumerate(step.index.tolist()):
            if not counted[b, t, n]:
                assert (step.multimasks.grad[k] == 0).all()
                continue
            leaf = step.multimasks[k : k + 1].detach().requires_grad_()
            goal = target[b, t, n].double()
            there = goal.any()
            costs = []
            for logits in upsample(leaf, goal.shape)[0]:
                p = logits.sigmoid()
                ce = F.binary_cross_entropy(p, goal, reduction="none")
                cost = weights["bce_weight"] * ce.mean() / counted.sum()
                inter, area, s = (p * goal).sum(), p.sum() + goal.sum(), weights["smooth"]
                fade = torch.where(goal > 0, 0.25 * (1 - p) ** 2, 0.75 * p**2)
                others = (
                    weights["dice_weight"] * (1 - (2 * inter + s) / (area + s))
                    + weights["iou_weight"] * (1 - (inter + s) / (area - inter + s))
                    + weights["focal_weight"] * (fade * ce).mean()
                )
                choice = weights["bce_weight"] * ce.mean() + others * there
                costs.append((choice.item(), cost + others * there / num_present))
            min(costs, key=lambda c: c[0])[1].backward()
            assert torch.allclose(step.multimasks.grad[k], leaf.grad[0], atol=1e-10)


def test_equals_sam2s_own_loss_with_its_weights():
    """SAM 2 sums over frames and divides by the objects of a frame; on one frame that is our mean."""
    loss_fns = pytest.importorskip("training.loss_fns")
    weights = {"loss_mask": 20.0, "loss_dice": 1.0, "loss_iou": 1.0, "loss_class": 1.0}
    peer = loss_fns.MultiStepMultiMasksAndIous(
        weights, supervise_all_iou=True, iou_use_l1_loss=True, pred_obj_scores=True
    )
    pred, target, everything, _ = random_case(12, shape=(1, 1, 4), target_size=(8, 10), dtype=torch.float32)
    target[..., :2, :2] = True
    everything[:] = True
    steps = [
        random_steps(everything, seed, num_masks=(m,), dtype=torch.float32)[0] for seed, m in ((0, 3), (1, 1))
    ]
    theirs = peer(
        [
            {
                "multistep_pred_multimasks_high_res": [upsample(s.multimasks, (8, 10)) for s in steps],
                "multistep_pred_ious": [s.ious for s in steps],
                "multistep_object_score_logits": [s.object_score_logits for s in steps],
            }
        ],
        target[:, 0],
    )
    theirs["core_loss"].backward()
    want = [tensor.grad.clone() for s in steps for tensor in (s.multimasks, s.ious, s.object_score_logits)]
    for s in steps:
        s.multimasks.grad = s.ious.grad = s.object_score_logits.grad = None
    ours = SAM2TrainingLoss(0.0, 1.0, 0.0, 0.0, smooth=1.0, focal_weight=20.0)(pred, target, steps=steps)
    ours.backward()
    got = [tensor.grad for s in steps for tensor in (s.multimasks, s.ious, s.object_score_logits)]
    assert ours.item() == pytest.approx(theirs["core_loss"].item(), rel=1e-5)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(got, want))


@pytest.mark.parametrize("with_steps", [False, True])
def test_gradcheck(with_steps):
    pred, target, valid, scored = random_case(4, shape=(1, 2, 2), size=(3, 3), target_size=(6, 6))
    loss = SAM2TrainingLoss(**ALL_WEIGHTS)
    scores = torch.randn(1, 2, 2, dtype=torch.float64)
    if not with_steps:
        ious = torch.rand(1, 2, 2, dtype=torch.float64)
        inputs = (pred.requires_grad_(), ious.requires_grad_(), scores.requires_grad_())
        assert torch.autograd.gradcheck(
            lambda p, i, s: loss(p, target, valid, iou_predictions=i, object_score_logits=s, scored=scored),
            inputs,
        )
        return
    first, click, _ = random_steps(scored, 4, size=(3, 3))

    def total(pred, multimasks, ious, scores):
        steps = [DecoderCall(first.index, multimasks, ious, scores), click]
        return loss(pred, target, valid, scored=scored, steps=steps)

    inputs = (pred.requires_grad_(), first.multimasks, first.ious, first.object_score_logits)
    assert torch.autograd.gradcheck(total, inputs)


def test_without_masks_everything_counts():
    pred, target, valid, _ = random_case(0)
    loss = SAM2TrainingLoss()
    assert loss(pred, target).item() == loss(pred, target, torch.ones_like(valid)).item()


def test_what_does_not_count_does_not_matter():
    pred, target, valid, scored = random_case(5)
    loss = SAM2TrainingLoss()
    want = loss(pred, target, valid, scored=scored).item()
    dirty = pred.clone()
    dirty[~(valid & scored)] = float("nan")
    dirty.requires_grad_()
    total = loss(dirty, target, valid, scored=scored)
    total.backward()
    assert total.item() == want
    assert torch.isfinite(dirty.grad).all()
    assert (dirty.grad[~(valid & scored)] == 0).all()


def test_an_absent_object_counts_in_bce_alone():
    pred = torch.randn(1, 2, 1, 6, 6)
    target = torch.zeros(1, 2, 1, 6, 6, dtype=torch.bool)
    target[:, 0, :, 1:4, 1:4] = True
    loss = SAM2TrainingLoss(smooth=1e-30)
    _, both = loss(pred, target, return_components=True)
    _, first = loss(pred[:, :1], target[:, :1], return_components=True)
    _, second = loss(pred[:, 1:], target[:, 1:], return_components=True)
    assert both["dice"] == first["dice"]
    assert both["iou"] == first["iou"]
    assert both["bce"].item() == pytest.approx((first["bce"] + second["bce"]).item() / 2)
    assert second["dice"] == second["iou"] == 0
    assert second["bce"] > 0


def test_one_frame_has_no_temporal_term():
    pred, target, _, _ = random_case(0, shape=(2, 1, 2))
    _, components = SAM2TrainingLoss()(pred, target, return_components=True)
    assert components["temporal"] == 0


def test_temporal_compares_changes_not_states():
    """A constant offset costs nothing; flicker that the target has not costs."""
    target = torch.zeros(1, 3, 1, 4, 4, dtype=torch.bool)
    steady = torch.full((1, 3, 1, 4, 4), 1.5)
    flicker = steady.clone()
    flicker[:, 1] = -1.5
    loss = SAM2TrainingLoss()
    assert loss(steady, target, return_components=True)[1]["temporal"] == 0
    swing = torch.sigmoid(torch.tensor(1.5)) - torch.sigmoid(torch.tensor(-1.5))
    assert loss(flicker, target, return_components=True)[1]["temporal"].item() == pytest.approx(swing.item())


def test_temporal_skips_over_no_frame():
    """Frames 0 and 2 valid, 1 not: no consecutive pair."""
    pred, target, _, _ = random_case(0, shape=(1, 3, 1))
    valid = torch.tensor([True, False, True])[None, :, None]
    assert SAM2TrainingLoss()(pred, target, valid, True)[1]["temporal"] == 0


def test_target_is_resized_by_area():
    pred, target, valid, scored = random_case(6, size=(4, 5), target_size=(12, 10))
    small = F.interpolate(target.flatten(0, 1).double(), (4, 5), mode="area").view(*pred.shape)
    loss = SAM2TrainingLoss(smooth=1e-3)
    _, got = loss(pred, target, valid, True, scored=scored)
    _, want = loss(pred, small, valid, True, scored=scored)
    assert_components(got, {k: v.item() for k, v in want.items()}, want)


@pytest.mark.parametrize("with_steps", [False, True])
def test_no_valid_entry_is_zero_with_a_gradient_path(with_steps):
    pred, target, valid, scored = random_case(0)
    pred.requires_grad_()
    kwargs = {"steps": random_steps(scored, 0)} if with_steps else {}
    total, components = SAM2TrainingLoss(**ALL_WEIGHTS)(
        pred, target, torch.zeros_like(valid), True, scored=scored, **kwargs
    )
    assert total == 0
    assert all(value == 0 for value in components.values())
    total.backward()
    assert (pred.grad == 0).all()
    for step in kwargs.get("steps", []):
        for tensor in (step.multimasks, step.ious, step.object_score_logits):
            assert (tensor.grad == 0).all()


@pytest.mark.parametrize("shape", [(1, 3, 0), (0, 2, 2)])
def test_no_objects_at_all(shape):
    pred = torch.zeros(*shape, 4, 4, requires_grad=True)
    total = SAM2TrainingLoss()(pred, torch.zeros(*shape, 8, 8, dtype=torch.bool))
    total.backward()
    assert total == 0


def test_empty_steps():
    """All frames prompted by masks: the decoder was never asked, yet the names to log stay the same."""
    pred, target, valid, _ = random_case(0)
    total, components = SAM2TrainingLoss()(
        pred.requires_grad_(), target, valid, True, scored=torch.zeros_like(valid), steps=[]
    )
    total.backward()
    assert set(components) == {"bce", "dice", "iou", "temporal", "iou_head", "presence", "total"}
    assert total == 0


def test_extreme_logits_and_no_smoothing_stay_finite():
    target = torch.zeros(1, 2, 2, 4, 4, dtype=torch.bool)
    target[:, :, 0, :2] = True
    pred = torch.full((1, 2, 2, 4, 4), -1024.0, requires_grad=True)
    total = SAM2TrainingLoss(smooth=1e-30, focal_weight=1.0)(pred, target)
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(pred.grad).all()


@pytest.mark.parametrize("with_steps", [False, True])
def test_float32_under_autocast(with_steps):
    pred, target, valid, scored = random_case(7, dtype=torch.bfloat16)
    kwargs = {"steps": random_steps(scored, 7, dtype=torch.bfloat16)} if with_steps else {}
    loss = SAM2TrainingLoss(**ALL_WEIGHTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, got = loss(pred.requires_grad_(), target, valid, True, scored=scored, **kwargs)
    assert total.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in got.values())
    for step in kwargs.get("steps", []):
        step.multimasks = step.multimasks.detach().float()
        step.ious = step.ious.detach().float()
        step.object_score_logits = step.object_score_logits.detach().float()
    want = loss(pred.detach().float(), target, valid, True, scored=scored, **kwargs)[1]
    assert_components(got, {k: v.item() for k, v in want.items()}, want)
    total.backward()
    assert pred.grad.dtype == torch.bfloat16


def test_components_are_detached_and_total_is_their_weighted_sum():
    pred, target, valid, _ = random_case(8)
    loss = SAM2TrainingLoss(0.5, 2.0, 3.0, 0.25)
    total, parts = loss(pred.requires_grad_(), target, valid, return_components=True)
    assert total.requires_grad
    assert not any(value.requires_grad for value in parts.values())
    assert set(parts) == {"bce", "dice", "iou", "temporal", "total"}
    weighted = 0.5 * parts["bce"] + 2 * parts["dice"] + 3 * parts["iou"] + 0.25 * parts["temporal"]
    assert total.item() == pytest.approx(weighted.item())
    assert loss(pred, target, valid).item() == pytest.approx(total.item())


def test_weight_zero_is_reported_but_costs_no_backward():
    pred, target, valid, _ = random_case(9)
    loss = SAM2TrainingLoss(bce_weight=1.0, dice_weight=0.0, iou_weight=0.0, temporal_weight=0.0)
    full = SAM2TrainingLoss()(pred, target, valid, True)[1]
    total, parts = loss(pred.requires_grad_(), target, valid, True)
    assert_components(parts, {k: full[k].item() for k in ("bce", "dice", "iou", "temporal")}, list(parts)[:4])
    assert total.item() == pytest.approx(full["bce"].item())

    def saved_bytes(**weights):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.nbytes) or x, lambda x: x):
            SAM2TrainingLoss(**weights)(pred, target, valid, True)
        return sum(sizes)

    only_bce = {"dice_weight": 0.0, "iou_weight": 0.0, "temporal_weight": 0.0}
    assert saved_bytes(**only_bce) < saved_bytes() / 2


def test_it_can_be_minimised():
    target = torch.zeros(1, 3, 1, 8, 8, dtype=torch.bool)
    for t in range(3):
        target[0, t, 0, 2:5, t : t + 4] = True
    pred = torch.zeros(1, 3, 1, 8, 8, requires_grad=True)
    optimizer = torch.optim.Adam([pred], lr=0.3)
    loss = SAM2TrainingLoss()
    for _ in range(100):
        optimizer.zero_grad()
        loss(pred, target).backward()
        optimizer.step()
    assert torch.equal(pred > 0, target)
    assert loss(pred, target) < 0.05


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("target_masks", torch.zeros(1, 2, 4, 4), "pred_masks"),
        ("target_masks", torch.zeros(1, 2, 3, 4, 4), "same B, T and N"),
        ("valid_masks", torch.ones(1, 2), "valid_masks"),
        ("object_score_logits", torch.ones(1, 2, 1, 1), "object_score_logits"),
    ],
)
def test_wrong_shapes_are_named(name, value, words):
    kwargs = {
        "pred_masks": torch.zeros(1, 2, 1, 4, 4),
        "target_masks": torch.zeros(1, 2, 1, 4, 4),
        name: value,
    }
    with pytest.raises(ValueError, match=words):
        SAM2TrainingLoss()(**kwargs)


@pytest.mark.parametrize("with_steps", [True, False])
def test_the_model_s_dict_tells_what_was_predicted(with_steps):
    pred, target, valid, scored = random_case(8)
    steps = random_steps(scored, 8) if with_steps else None
    out = {"pred_masks": pred, "scored": scored, "steps": steps, "iou_predictions": None}
    loss = SAM2TrainingLoss(**ALL_WEIGHTS)
    expected = loss(pred, target, valid, True, scored=scored, steps=steps)
    found = loss(out, target, valid, True)
    assert found[0] == expected[0]
    assert found[1] == expected[1]
    assert loss(out, target, valid, scored=torch.zeros_like(scored), steps=[]) == 0


def test_untracked_entries_of_bare_logits_are_left_out():
    pred, target, valid, scored = random_case(9, dtype=torch.float32)
    pred[~scored] = NOT_TRACKED_LOGIT
    loss = SAM2TrainingLoss(**ALL_WEIGHTS)
    assert loss(pred, target, valid) == loss(pred, target, valid, scored=scored)
    larger = F.interpolate(pred.flatten(0, 1), (23, 17), mode="bilinear").view(*pred.shape[:3], 23, 17)
    assert loss(larger, target, valid) == loss(larger, target, valid, scored=scored)
    # An object that is scored absent is predicted, and a mask that is not a number must be seen.
    pred[scored] = NO_OBJECT_LOGIT
    assert loss(pred, target, valid) == loss(pred, target, valid, scored=scored) > 100
    pred[...] = float("nan")
    assert loss(pred, target).isnan()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (torch.full((1, 2, 1, 4, 4), 255, dtype=torch.uint8), "from 255 to 255"),
        (torch.tensor([0.0, 255.0]).view(1, 2, 1, 1, 1).expand(1, 2, 1, 4, 4), "from 0 to 255"),
        (torch.full((1, 2, 1, 4, 4), float("nan")), "from nan to nan"),
        (torch.full((1, 2, 1, 4, 4), -1.0), "from -1 to -1; allowed are bool, or numbers from 0 to 1"),
    ],
)
def test_targets_out_of_range_are_refused(target, words):
    with pytest.raises(DataError, match=f"target_masks: values {words}"):
        SAM2TrainingLoss()(torch.zeros(1, 2, 1, 4, 4), target)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_targets_on_a_device_are_not_looked_at(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor without values raises an error where one would wait for the device to have some.

    But for how many entries there are, which bare logits do not tell.
    """
    logits, target = (
        torch.zeros(1, 2, 1, 4, 4, device="meta", dtype=kind) for kind in (torch.float32, dtype)
    )
    with pytest.raises(RuntimeError, match=r"meta"):
        target.amax().item()
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it knows no such device
    with fx_config.patch(meta_nonzero_assume_all_nonzero=True):
        loss = SAM2TrainingLoss()(logits.requires_grad_(), target)
    assert (loss.device.type, loss.shape) == ("meta", ())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dice_weight": -1.0}, r"loss\.dice_weight=-1\.0: must be at least 0"),
        ({"focal_weight": float("nan")}, r"loss\.focal_weight=nan: must be at least 0"),
        ({"bce_weight": float("inf")}, r"loss\.bce_weight=inf: must be at least 0"),
        ({"smooth": 0.0}, r"loss\.smooth=0\.0: must be above 0"),
        ({"iou_weight": "1"}, r"loss\.iou_weight='1': must be a number"),
        ({"resolution": "half"}, r"loss\.resolution='half': must be one of full, low"),
        ({"num_points": 0}, r"loss\.num_points=0: must be at least 1"),
        ({"focal_wieght": 1.0}, r"loss\.focal_wieght: unknown key, did you mean loss\.focal_weight\?"),
        ({"smooth": -1, "num_points": 2.5}, r"num_points=2\.5: must be an integer\nloss\.smooth=-1: must"),
    ],
)
def test_arguments_that_are_not_allowed(given, words):
    with pytest.raises(ConfigError, match=words):
        SAM2TrainingLoss(**given)


RANK_PROGRAM = """
import sys
import torch
import torch.distributed as dist
from sam2vt.core.training.loss import SAM2TrainingLoss

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)

class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.3, dtype=torch.float64))
    def forward(self, x):
        return x * self.scale

part = slice(rank, rank + 1)
results = []
for case in torch.load(f"{folder}/cases.pt"):
    model = torch.nn.parallel.DistributedDataParallel(Scaled())
    loss = SAM2TrainingLoss()(
        model(case["pred"][part]), case["target"][part], case["valid"][part],
        object_score_logits=case["scores"][part],
    )
    loss.backward()
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    alone = SAM2TrainingLoss().eval()(case["pred"][part], case["target"][part], case["valid"][part])
    gradient = model.module.scale.grad.item()
    results.append({"gradient": gradient, "loss": mean.item() / 2, "alone": alone.item()})
torch.save(results, f"{folder}/rank{rank}.pt")
dist.destroy_process_group()
"""


def test_two_ranks_give_the_gradient_of_one_process_on_the_union(tmp_path: Path):
    """The ranks hold different numbers of entries; in the second case one holds none."""
    pred, target, valid, _ = random_case(11)
    scores = torch.randn(valid.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    few, none = valid.clone(), valid.clone()
    few[1, 1:] = False
    none[1] = False
    cases = [{"pred": pred, "target": target, "valid": v, "scores": scores} for v in (few, none)]
    torch.save(cases, tmp_path / "cases.pt")
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK_PROGRAM, str(tmp_path), str(rank)]) for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in ranks] == [0, 0]
    by_rank = [torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2)]
    for i, case in enumerate(cases):
        scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
        want = SAM2TrainingLoss()(pred * scale, target, case["valid"], object_score_logits=scores)
        want.backward()
        for rank in range(2):
            got = by_rank[rank][i]
            assert got["gradient"] == pytest.approx(scale.grad.item(), rel=1e-6)
            assert got["loss"] == pytest.approx(want.item(), rel=1e-6)
            # In eval mode ranks may be called unequally often: no exchange, each its own mean.
            part = slice(rank, rank + 1)
            own = SAM2TrainingLoss()(pred[part], target[part], case["valid"][part])
            assert got["alone"] == pytest.approx(own.item())
