"""Features kept between steps stand in for images, and say what they depend on."""

from __future__ import annotations

import pytest
import torch

from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.errors import ConfigError, DataError

from .conftest import SIZE, make_clips, nano_model, prompt

MEMORY = ["memory_attention", "memory_encoder"]
STAGES = {"before the convolutions": [*MEMORY, "mask_decoder"], "after them": MEMORY}


def kept(model: SAM2Model, images: torch.Tensor) -> list[torch.Tensor]:
    return [level.unflatten(0, images.shape[:2]) for level in model.keep(images.flatten(0, 1))]


@pytest.mark.parametrize("trained", STAGES.values(), ids=STAGES)
def test_outputs_and_gradients_are_those_of_images_but_for_rounding(trained):
    model = nano_model(trainable_modules=trained).train()
    images, masks = make_clips(2, 3, 2)
    features = kept(model, images)
    assert [tuple(level.shape[2:]) for level in features] == model.kept_shapes
    found = []
    for given in ({"images": images}, {"images": None, "features": features}):
        model.zero_grad()
        out = model(masks=masks, **given)["pred_masks"]
        out.square().mean().backward()
        found.append((out.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (expected, grads), (out, own) = found
    assert torch.allclose(out, expected, atol=1e-2, rtol=1e-2)
    assert not torch.equal(out, expected)
    assert grads.keys() == own.keys()
    for name, grad in grads.items():
        assert (grad - own[name]).norm() <= 0.05 * grad.norm() + 1e-6, name


def test_a_frozen_decoder_makes_them_smaller():
    finer = [nano_model(trainable_modules=trained).kept_shapes for trained in STAGES.values()]
    sizes = [sum(c * h * w for c, h, w in levels) for levels in finer]
    assert sizes[0] > 4 * sizes[1]
    assert finer[0][0][1:] == finer[1][0][1:] == (SIZE // 4, SIZE // 4)


def test_the_description_changes_with_what_they_come_from_alone():
    model, same = nano_model(trainable_modules=MEMORY), nano_model(trainable_modules=MEMORY)
    described = model.describe_encoder()
    with torch.no_grad():
        next(same.network.memory_attention.parameters()).add_(1)
    assert same.describe_encoder() == described
    for part in (model.network.image_encoder.trunk, model.network.sam_mask_decoder.conv_s1):
        before = model.describe_encoder()
        with torch.no_grad():
            next(part.parameters()).view(-1)[0] += 1e-3
        assert model.describe_encoder() != before
    unlike = [
        nano_model(seed=1, trainable_modules=MEMORY),
        nano_model(trainable_modules=STAGES["before the convolutions"]),
    ]
    assert described not in [each.describe_encoder() for each in unlike]


def test_an_encoder_that_trains_is_refused():
    model = nano_model(trainable_modules=[*MEMORY, "image_encoder.neck.convs.0*"])
    with pytest.raises(ConfigError, match=r"image_encoder trains \(neck\.convs\.0.*feature_cache=null"):
        model.describe_encoder()


def test_features_of_another_model_are_refused():
    images, masks = make_clips(1, 2, 1)
    features = kept(nano_model(trainable_modules=MEMORY), images)
    model = nano_model(trainable_modules=STAGES["before the convolutions"])
    with pytest.raises(DataError, match=r"features: shapes .* needed are"):
        model(None, masks, features=features)
    with pytest.raises(DataError, match="one of them"):
        model(images, masks, features=features)


def test_a_frozen_encoder_in_bf16_gives_the_features_that_a_cache_holds() -> None:
    images, masks = make_clips(1, 3, 1)
    given = {"trainable_modules": ["memory_attention", "memory_encoder", "mask_decoder"]}
    plain, ours = nano_model(**given), nano_model(encoder_precision="bf16", **given)
    expected, found = (model.encode(images.flatten(0, 1)) for model in (plain, ours))
    for level, other in zip(found.levels, expected.levels):
        assert level.dtype == torch.float32
        assert 0 < (level - other).norm() < 0.02 * other.norm()
    prompts = [[prompt("mask", masks[0, 0, 0], 0)]]
    ours.train()(images, masks, prompts)["pred_masks"].sum().backward()
    trained = [p for p in ours.network.memory_attention.parameters() if p.grad is not None]
    assert trained
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in trained)
