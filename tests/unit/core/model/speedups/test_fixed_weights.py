"""What weights decide is computed once, and features stay the same."""

from __future__ import annotations

import torch
from sam2.modeling.backbones.hieradet import Hiera

from sam2vt.core.model.speedups.fixed_weights import FixedNeck, FixedTrunk, fix_weights
from sam2vt.core.model.tracking.features import encode_images

from ..conftest import SIZE, nano_model


def features(model, images: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return encode_images(model.network, images).levels


def test_features_are_the_same_from_fewer_convolutions(monkeypatch) -> None:
    model, images = nano_model().eval(), torch.randn(2, 3, SIZE, SIZE)
    expected, names = features(model, images), list(model.network.state_dict())
    fix_weights(model.network)
    fix_weights(model.network)  # another tracker with the same model
    assert list(model.network.state_dict()) == names
    convolved, embedded = [], []
    decoder = model.network.sam_mask_decoder
    for conv in (decoder.conv_s0, decoder.conv_s1):
        conv.register_forward_hook(lambda *_: convolved.append(1))
    real = Hiera._get_pos_embed
    monkeypatch.setattr(Hiera, "_get_pos_embed", lambda self, hw: embedded.append(1) or real(self, hw))
    for _ in range(2):
        for level, other in zip(features(model, images), expected, strict=True):
            torch.testing.assert_close(level, other, rtol=1e-5, atol=1e-5)
    assert not convolved
    assert len(embedded) == 1


def test_a_layer_that_is_wrapped_stays() -> None:
    class Wrapped(torch.nn.Conv2d):
        pass

    model, images = nano_model().eval(), torch.randn(1, 3, SIZE, SIZE)
    expected = features(model, images)
    model.network.sam_mask_decoder.conv_s0.__class__ = Wrapped
    fix_weights(model.network)
    assert type(model.network.image_encoder.trunk) is FixedTrunk
    assert type(model.network.image_encoder.neck) is not FixedNeck
    for level, other in zip(features(model, images), expected, strict=True):
        torch.testing.assert_close(level, other)
