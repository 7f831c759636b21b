"""An adapter added through the table: frozen base, new parameters, checkpoints and export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2vt.core.model.adapters import ADAPTERS, Adapter
from sam2vt.core.model.checkpoints import load_weights
from sam2vt.core.model.export import export_checkpoint
from sam2vt.errors import CheckpointError, ConfigError

from .conftest import make_clips, nano_model, prompt
from .test_export import write_training_checkpoint


class LowRankLinear(nn.Linear):
    """A linear layer with a product of two small matrices added to its weight."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight + self.up @ self.down, self.bias)


def adapt(network: Any, settings: Mapping[str, Any]) -> None:
    for block in network.image_encoder.trunk.blocks:
        layer = block.attn.qkv
        layer.__class__ = LowRankLinear
        layer.down = nn.Parameter(torch.ones(settings["rank"], layer.in_features))
        layer.up = nn.Parameter(torch.zeros(layer.out_features, settings["rank"]))


def merge(network: Any) -> None:
    for layer in network.modules():
        if isinstance(layer, LowRankLinear):
            layer.weight.data += layer.up @ layer.down
            layer.__class__ = nn.Linear
            del layer.down, layer.up


def rename(network: Any, settings: Mapping[str, Any]) -> None:
    network.obj_ptr_proj = nn.Sequential(network.obj_ptr_proj)


@pytest.fixture(autouse=True)
def dummies(monkeypatch) -> None:
    monkeypatch.setitem(ADAPTERS, "dummy", Adapter(adapt, merge))
    monkeypatch.setitem(ADAPTERS, "lasting", Adapter(adapt))
    monkeypatch.setitem(ADAPTERS, "renaming", Adapter(rename))


def adapted(name: str = "dummy", **settings: Any):
    options = {"trainable_modules": [], "adapter_settings": {"rank": 2}, **settings}
    return nano_model(adapter=name, **options)


def trained_once(model) -> None:
    images, masks = make_clips(1, 2, 1)
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    out = model(images, masks, [[prompt("mask", masks[0, 0, 0], 0)]])
    out["pred_masks_high_res"].clamp(-50, 50).mean().backward()
    optimizer.step()
    model.eval()


@pytest.mark.parametrize("speedups", ["auto", "none"])
def test_only_its_parameters_train(speedups: str) -> None:
    model = adapted(speedups=speedups)
    trains = {name for name, p in model.network.named_parameters() if p.requires_grad}
    assert trains
    assert all(name.endswith((".qkv.down", ".qkv.up")) for name in trains)
    before = {name: p.clone() for name, p in model.network.named_parameters()}
    trained_once(model)
    changed = {name for name, p in model.network.named_parameters() if not torch.equal(p, before[name])}
    assert changed
    assert changed <= trains
    model.freeze_all_parameters()
    assert model.count_trainable_parameters() == 0


def test_patterns_train_beside_it() -> None:
    model = adapted(trainable_modules=["mask_decoder", "image_encoder.trunk.blocks.0.attn.qkv.up"])
    trains = {name.split(".")[0] for name, p in model.network.named_parameters() if p.requires_grad}
    assert trains == {"image_encoder", "sam_mask_decoder", "no_obj_ptr"}


def test_a_base_checkpoint_loads_before_it(tmp_path) -> None:
    base = nano_model(seed=3)
    torch.save({"model": base.network.state_dict()}, tmp_path / "base.pt")
    model = adapted()
    model.checkpoint_path = str(tmp_path / "base.pt")
    own = model.load().network.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in base.network.state_dict().items())


def test_export_merges_it(tmp_path) -> None:
    model = adapted()
    trained_once(model)
    write_training_checkpoint(tmp_path / "last.ckpt", model)
    export_checkpoint(tmp_path / "last.ckpt", tmp_path / "out.pt")
    plain = nano_model(seed=7)
    load_weights(plain.network, str(tmp_path / "out.pt"))
    images, _ = make_clips(1, 1, 1)
    with torch.no_grad():
        ours, merged = (m.eval().encode(images[0]).levels for m in (model, plain))
    for one, other in zip(ours, merged, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_export_refuses_one_that_cannot_be_merged(tmp_path) -> None:
    write_training_checkpoint(tmp_path / "last.ckpt", adapted("lasting"))
    with pytest.raises(CheckpointError, match=r"model.adapter=lasting, which cannot be merged"):
        export_checkpoint(tmp_path / "last.ckpt", tmp_path / "out.pt")


def test_unknown_ones_and_ones_that_rename_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.adapter: got 'lora'; allowed are none, dummy"):
        adapted("lora")
    with pytest.raises(ConfigError, match=r"'renaming' renames or removes parameters, such as obj_ptr_proj"):
        adapted("renaming")
