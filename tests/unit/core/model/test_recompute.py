"""Recomputing: the same losses and gradients from less that is kept for backward."""

from __future__ import annotations

import pytest
import torch

from sam2vt.config import ModelConfig
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.settings import choices

from .conftest import centre_clicks, make_clips, nano_model, prompt

RECOMPUTABLE = choices(ModelConfig, "recompute")


class Kept:
    """The bytes that autograd keeps for backward, weights and shared storages counted once at most."""

    def __init__(self, model: SAM2Model) -> None:
        self.weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.storages: dict[int, torch.UntypedStorage] = {}

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.weights:
            self.storages[storage.data_ptr()] = storage  # held, so that its place is not given anew
        return tensor

    @property
    def num_bytes(self) -> int:
        return sum(storage.nbytes() for storage in self.storages.values())


def run(
    recompute: tuple[str, ...],
    trainable: tuple[str, ...] = ("*",),
    kind: str = "point",
    bptt_frames: int | None = None,
):
    """Outputs, gradients and the bytes kept for backward."""
    images, masks = make_clips(2, 4, 2)
    prompts = [[prompt(kind, masks[b, 0, n], n) for n in range(2)] for b in range(2)]
    model = nano_model(
        recompute=recompute,
        trainable_modules=trainable,
        num_correction_clicks=2,
        correction_from_gt=0.5,
        bptt_frames=bptt_frames,
    )
    for module in model.modules():  # draws are repeated, too
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    model.click_sampler = centre_clicks
    model.train()
    torch.manual_seed(1)
    kept = Kept(model)
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        out = model(images, masks, prompts)
        total = out["pred_masks"].mean() + sum(step.ious.sum() for step in out["steps"])
    num_bytes = kept.num_bytes
    total.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return out["pred_masks"].detach(), gradients, num_bytes


@pytest.mark.parametrize("bptt_frames", [None, 2])
@pytest.mark.parametrize("parts", [*((part,) for part in RECOMPUTABLE), RECOMPUTABLE])
def test_it_changes_nothing_but_what_is_kept(parts: tuple[str, ...], bptt_frames: int | None) -> None:
    masks, gradients, num_bytes = run((), bptt_frames=bptt_frames)
    masks_again, gradients_again, num_bytes_again = run(parts, bptt_frames=bptt_frames)
    torch.testing.assert_close(masks_again, masks, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == gradients_again.keys()
    for name, gradient in gradients.items():
        worst = (gradients_again[name] - gradient).abs().max()
        assert worst <= 1e-5 * max(1.0, float(gradient.abs().max())), name
    assert num_bytes_again < 0.97 * num_bytes


def test_all_of_it_keeps_a_fraction() -> None:
    assert run(RECOMPUTABLE, kind="mask")[2] < 0.4 * run((), kind="mask")[2]


@pytest.mark.parametrize("recompute", [(), ("image_encoder",)])
def test_a_frozen_encoder_keeps_nothing(recompute: tuple[str, ...]) -> None:
    images, _ = make_clips(1, 2, 1)
    model = nano_model(trainable_modules=["memory_attention"], recompute=recompute).train()
    kept = Kept(model)
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        features = model.encode(images.flatten(0, 1))
    assert kept.num_bytes == 0
    assert not any(level.requires_grad for level in features.levels)


def test_a_frozen_encoder_runs_once() -> None:
    images, masks = make_clips(1, 2, 1)
    model = nano_model(trainable_modules=["mask_decoder"], recompute=RECOMPUTABLE).train()
    calls = []
    model.network.image_encoder.trunk.register_forward_hook(lambda *_: calls.append(1))
    out = model(images, masks, [[prompt("mask", masks[0, 0, 0], 0)]])
    out["pred_masks"].sum().backward()
    assert len(calls) == 2  # a frame each, and not again for the convolutions behind it
