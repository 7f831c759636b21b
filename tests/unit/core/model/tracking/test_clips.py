"""The memory loop: mixed batches, gradient through memory, presence, late objects."""

from __future__ import annotations

import pytest
import torch

from sam2vt.core.model.tracking.heads import NO_OBJECT_LOGIT, NOT_TRACKED_LOGIT

from ..conftest import centre_clicks, make_clips, nano_model, prompt


def forward(model, images, masks, prompts, **kwargs):
    with torch.no_grad():
        return model(images, masks, prompts, **kwargs)


@pytest.mark.parametrize("train", [True, False])
def test_a_mixed_batch_equals_each_object_run_alone(train):
    images, masks = make_clips(2, 5, 3)
    prompts = [
        [
            prompt("mask", masks[0, 0, 0], 0),
            prompt("point", masks[0, 0, 1], 1),
            prompt("box", masks[0, 2, 2], 2, 2),
        ],
        [
            prompt("two points", masks[1, 0, 0], 0),
            prompt("point", masks[1, 1, 1], 1, 1),
            prompt("mask", masks[1, 3, 1], 1, 3),
        ],
    ]
    model = nano_model(num_correction_clicks=2, correction_from_gt=0.0).train(train)
    model.click_sampler = centre_clicks
    together = forward(model, images, masks, prompts)
    for clip, slot in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]:
        own = [{**p, "object_index": 0} for p in prompts[clip] if p["object_index"] == slot]
        alone = forward(model, images[clip : clip + 1], masks[clip : clip + 1, :, slot : slot + 1], [own])
        for name in ("pred_masks", "pred_masks_high_res", "iou_predictions", "object_score_logits"):
            got, expected = together[name][clip, :, slot], alone[name][0, :, 0]
            torch.testing.assert_close(
                got, expected, atol=2e-5, rtol=1e-5, msg=f"{name} of object {clip, slot}"
            )
        assert torch.equal(together["scored"][clip, :, slot], alone["scored"][0, :, 0])


def test_scored_leaves_out_padding_mask_prompts_and_frames_before_the_first_prompt():
    images, masks = make_clips(1, 4, 3)
    prompts = [[prompt("mask", masks[0, 0, 0], 0), prompt("point", masks[0, 2, 1], 1, 2)]]
    out = forward(nano_model().train(), images, masks, prompts)
    assert out["scored"][0].tolist() == [
        [False, False, False],
        [True, False, False],
        [True, True, False],
        [True, True, False],
    ]
    assert (out["pred_masks"][0, :, 2] == NOT_TRACKED_LOGIT).all()
    assert (out["pred_masks_high_res"][0, :2, 1] == NOT_TRACKED_LOGIT).all()
    entries = torch.cat([step.index for step in out["steps"]])
    assert {tuple(e) for e in entries.tolist()} == {tuple(e) for e in out["scored"].nonzero().tolist()}


def test_the_gradient_reaches_every_tensor_that_trains():
    model = nano_model(num_correction_clicks=1, correction_from_gt=0.0).train()
    images, masks = make_clips(1, 4, 4)
    kinds = ["point", "box", "mask", "point"]
    prompts = [[prompt(kind, masks[0, 0, n], n) for n, kind in enumerate(kinds)]]
    prompts[0].append(prompt("mask", masks[0, 2, 3], 3, 2))
    out = model(images, masks, prompts)
    loss = out["pred_masks_high_res"].clamp(-50, 50).sum()
    for step in out["steps"]:
        loss = loss + step.multimasks.sum() + step.ious.sum() + step.object_score_logits.sum()
    loss.backward()
    without = [n for n, p in model.network.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert not model.network.no_mem_pos_enc.requires_grad


def test_training_the_memory_alone_reaches_all_of_it_and_changes_nothing_else():
    model = nano_model(trainable_modules=["memory_attention", "memory_encoder"]).train()
    images, masks = make_clips(1, 3, 2)
    prompts = [[prompt("point", masks[0, 0, 0], 0), prompt("mask", masks[0, 0, 1], 1)]]
    before = {name: p.clone() for name, p in model.network.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        out = model(images, masks, prompts)
        out["pred_masks_high_res"].clamp(-50, 50).mean().backward()
        for name, p in model.network.named_parameters():
            if name.startswith(("memory_attention.", "memory_encoder.")):
                assert p.grad is not None, name
                assert p.grad.any() or "layer_scale" in name or "gamma" in name, name
        optimizer.step()
    changed = {n for n, p in model.network.named_parameters() if not torch.equal(p, before[n])}
    allowed = (
        "memory_attention.",
        "memory_encoder.",
        "maskmem_tpos_enc",
        "no_mem_embed",
        "no_obj_embed_spatial",
    )
    assert changed
    assert all(name.startswith(allowed) for name in changed)


def test_the_frozen_encoder_saves_nothing_for_backward():
    model = nano_model(trainable_modules=["memory_attention", "memory_encoder"]).train()
    images, _ = make_clips(1, 3, 1)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.nbytes) or t, lambda t: t):
        features = model.encode(images[0])
    assert sum(saved) == 0
    assert not any(level.requires_grad for level in features.levels)
    assert not model.network.image_encoder.training
    assert model.network.memory_attention.training


def test_presence_comes_from_the_ground_truth_while_training():
    images, masks = make_clips(1, 4, 1)
    prompts = [[prompt("point", masks[0, 0, 0], 0)]]
    model = nano_model().train()
    with torch.no_grad():
        model.network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(-50.0)
    out = model(images, masks, prompts)
    assert (out["object_score_logits"] < 0).all()
    # Scored absent though it is there: the masks stay live and their decoder gets a gradient.
    assert out["pred_masks"].min() > NO_OBJECT_LOGIT / 2
    out["pred_masks"].sum().backward()
    assert model.network.sam_mask_decoder.mask_tokens.weight.grad.any()
    # What is remembered is as if it were scored present.
    there = forward(model, images, masks, prompts)
    with torch.no_grad():
        model.network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(50.0)
    scored_present = forward(model, images, masks, prompts)
    torch.testing.assert_close(there["pred_masks"], scored_present["pred_masks"])
    # Where the ground truth is unknown the model's own score decides.
    unknown = forward(model, images, masks, prompts, valid_masks=torch.zeros(1, 4, 1, dtype=torch.bool))
    torch.testing.assert_close(unknown["pred_masks"], scored_present["pred_masks"])
    with torch.no_grad():
        model.network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(-50.0)
    unknown = forward(model, images, masks, prompts, valid_masks=torch.zeros(1, 4, 1, dtype=torch.bool))
    assert (unknown["pred_masks"][:, 1:] - scored_present["pred_masks"][:, 1:]).abs().max() > 1e-3
    model.eval()
    assert (forward(model, images, masks, prompts)["pred_masks"] == NO_OBJECT_LOGIT).all()


def test_an_object_known_to_be_absent_is_remembered_as_absent():
    images, masks = make_clips(1, 4, 1)
    masks[0, 1] = False
    prompts = [[prompt("point", masks[0, 0, 0], 0)]]
    model = nano_model().train()
    with torch.no_grad():
        model.network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(50.0)
    told = forward(model, images, masks, prompts)["pred_masks"]
    valid = torch.tensor([[[True], [False], [True], [True]]])
    untold = forward(model, images, masks, prompts, valid_masks=valid)["pred_masks"]
    assert torch.equal(told[:, :2], untold[:, :2])
    assert (told[:, 2:] - untold[:, 2:]).abs().max() > 1e-3


def test_unknown_ground_truth_gets_no_clicks():
    images, masks = make_clips(1, 2, 2)
    prompts = [[prompt("point", masks[0, 0, n], n) for n in range(2)]]
    model = nano_model(num_correction_clicks=3).train()
    valid = torch.tensor([[[True, False], [True, True]]])
    out = forward(model, images, masks, prompts, valid_masks=valid)
    calls = [tuple(e) for step in out["steps"] for e in step.index.tolist()]
    assert calls.count((0, 0, 0)) == 4
    assert calls.count((0, 0, 1)) == 1
    model.eval()
    assert all(len(step.index) == 2 for step in forward(model, images, masks, prompts)["steps"])


def test_clicks_come_from_the_ground_truth_in_the_given_share():
    images, masks = make_clips(1, 1, 1)
    prompts = [[prompt("point", masks[0, 0, 0], 0)]]
    seen = []
    for share in (0.0, 1.0):
        model = nano_model(num_correction_clicks=2, correction_from_gt=share).train()
        model.click_sampler = lambda m, p: seen.append(p is None) or centre_clicks(m, p)
        forward(model, images, masks, prompts)
    assert seen == [False, False, True, True]


def test_bptt_frames_cuts_the_gradient_through_memory():
    images, masks = make_clips(1, 5, 1)
    prompts = [[prompt("point", masks[0, 0, 0], 0)]]

    def gradient(bptt_frames):
        model = nano_model(bptt_frames=bptt_frames).train()
        out = model(images, masks, prompts)
        out["pred_masks"][:, -1].sum().backward()
        return out["pred_masks"].detach(), model.network.memory_encoder.out_proj.weight.grad

    whole, full = gradient(None)
    same, cut = gradient(2)
    assert torch.equal(whole, same)
    assert full.abs().max() > 0
    # Frame 4 starts a new stretch: everything it remembers was cut off.
    assert cut is None or not cut.any()
    _, three = gradient(3)
    assert three.abs().max() > 0
    assert not torch.allclose(three, full)


def test_a_shorter_memory_reaches_the_network():
    assert nano_model(num_maskmem=3).network.maskmem_tpos_enc.shape[0] == 3
    assert nano_model(max_obj_ptrs_in_encoder=4).network.max_obj_ptrs_in_encoder == 4
