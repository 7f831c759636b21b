"""A blank clip counts nowhere: not in the loss, not in the gradient."""

from __future__ import annotations

import pytest
import torch

from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.data.clips.drawing import draw_blank
from sam2vt.core.data.frames.feature_cache import as_tensors
from sam2vt.core.training.loss import batch_loss
from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule


def loss_and_gradients(module, clips):
    """Without dropout, whose draws depend on how many objects there are."""
    module.zero_grad()
    module.eval()
    module.criterion.train()
    torch.manual_seed(0)
    loss, components, _ = batch_loss(module, module.criterion, collate_fn(clips))
    loss.backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return float(loss.detach()), components, gradients


@pytest.fixture
def trained(config):
    """The module and the first clip, of two objects, of a configuration with three kinds of prompt."""

    def make(kinds: list[str], corrections: int = 0):
        config.dataset.prompt_types = kinds
        config.dataset.video_clip_length = 3
        config.model.num_correction_clicks = corrections
        config.model.trainable_modules = ["*"]
        module, data = SAM2LightningModule(config), SAM2LightningDataModule(config)
        module.setup()
        data.setup()
        return module, data.train_dataset[0], data.train_dataset.spec

    return make


@pytest.mark.parametrize(
    ("kinds", "corrections"),
    [(["point"], 0), (["point"], 2), (["box"], 0), (["mask"], 0), (["mask", "box"], 0)],
)
def test_loss_and_gradient_of_a_batch_with_a_blank_clip(trained, kinds, corrections) -> None:
    module, clip, spec = trained(kinds, corrections)
    alone, components, gradients = loss_and_gradients(module, [clip])
    assert sum(float(g.abs().sum()) for g in gradients.values()) > 0
    for clips in ([clip, as_tensors(draw_blank(spec, "bad"))], [as_tensors(draw_blank(spec, "bad")), clip]):
        loss, same_components, same_gradients = loss_and_gradients(module, clips)
        assert loss == pytest.approx(alone, rel=1e-5)
        for name, value in components.items():
            assert float(same_components[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
        for name, gradient in same_gradients.items():
            expected = gradients.get(name, torch.zeros_like(gradient))
            scale = 1e-4 * max(1.0, float(expected.abs().max()))
            torch.testing.assert_close(
                gradient, expected, rtol=1e-3, atol=scale, msg=lambda m, n=name: f"{n}: {m}"
            )
        assert gradients.keys() <= same_gradients.keys()


@pytest.mark.parametrize("kind", ["point", "mask"])
def test_a_batch_of_blank_clips_has_a_loss_of_0_and_a_gradient_of_0(trained, kind) -> None:
    module, _, spec = trained([kind])
    module.train()
    batch = collate_fn([as_tensors(draw_blank(spec, "a")), as_tensors(draw_blank(spec, "b"))])
    loss, components, _ = batch_loss(module, module.criterion, batch)
    assert float(loss) == 0
    assert all(float(value) == 0 for value in components.values())
    if loss.requires_grad:
        loss.backward()
    assert not any(p.grad.any() for p in module.parameters() if p.grad is not None)


def test_a_step_of_blank_clips_alone_trains_on(trained, config) -> None:
    """As on a rank all of whose clips are bad: the step has a gradient to share with the other ranks."""
    from sam2vt.train import build_trainer

    module, _, spec = trained(["mask"])
    config.trainer.max_steps, config.trainer.limit_val_batches, config.trainer.num_overlay_videos = 1, 0, 0
    before = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}
    for group in (config.optimizer,):
        group.weight_decay = 0.0
    loader = torch.utils.data.DataLoader([as_tensors(draw_blank(spec, "a"))], collate_fn=collate_fn)
    trainer = build_trainer(config, [])
    trainer.fit(module, loader)
    assert trainer.global_step == 1
    assert all(torch.equal(p, before[name]) for name, p in module.named_parameters() if name in before)
