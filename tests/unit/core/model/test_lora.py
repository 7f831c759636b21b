"""Adapters of PEFT: what they change, what trains, and how files with them are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sam2vt.core.model import lora
from sam2vt.core.model.checkpoints import load_weights, whole_state
from sam2vt.core.model.export import export_checkpoint, export_to_transformers
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.model.speedups.narrow_memory import NarrowMemoryAttention
from sam2vt.core.model.speedups.windows import SharedPaddingBlock
from sam2vt.core.prediction.weights import open_weights
from sam2vt.core.training.loss import SAM2TrainingLoss
from sam2vt.errors import CheckpointError, ConfigError
from sam2vt.health import packages

from .conftest import SIZE, make_clips, nano_model, prompt
from .test_export import write_training_checkpoint
from .wide_nano import lively_model, wide_yaml

needs_peft = pytest.mark.usefixtures("peft")
SETTINGS = {"rank": 4, "alpha": 8.0}


def adapted(seed: int = 0, **settings: Any) -> SAM2Model:
    options = {"trainable_modules": [], "memory_dropout": 0.0, **settings}
    return nano_model(seed, lora={**SETTINGS, **options.pop("lora", {})}, **options)


@pytest.fixture(params=["cpu", "gpu", "none"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a CPU computes, what a GPU does, and SAM 2's own modules."""
    if request.param == "gpu":
        for kind in (SharedPaddingBlock, NarrowMemoryAttention):
            monkeypatch.setattr(kind, "devices", ())
    return {"speedups": "none" if request.param == "none" else "auto"}


def seen(model: SAM2Model) -> dict[str, Any]:
    """Masks of two objects, one by points and one by its mask, over a clip."""
    images, masks = make_clips(1, 3, 2)
    prompts = [[prompt("two points", masks[0, 0, 0], 0), prompt("mask", masks[0, 0, 1], 1)]]
    return model(images, masks, prompts)


def train(model: SAM2Model, steps: int = 5) -> dict[str, torch.Tensor]:
    """Train for some steps; return the largest gradient that each trainable parameter got."""
    _, masks = make_clips(1, 3, 2)
    trains = {name: p for name, p in model.network.named_parameters() if p.requires_grad}
    largest = {name: torch.zeros(()) for name in trains}
    optimizer = torch.optim.AdamW(trains.values(), lr=1e-2)
    model.train()
    for _ in range(steps):
        outputs = seen(model)
        loss = SAM2TrainingLoss()(outputs, masks)
        # Of several masks the loss only reaches the best, which here is mostly the same one.
        (loss + sum(step.multimasks.sigmoid().mean() for step in outputs["steps"])).backward()
        for name, parameter in trains.items():
            assert parameter.grad is not None, name
            largest[name] = torch.maximum(largest[name], parameter.grad.abs().max())
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    return largest


def saved(model: SAM2Model) -> dict[str, Any]:
    """A training checkpoint's content, as far as weights are read from it."""
    state = {name: value.clone() for name, value in model.network.state_dict().items()}
    return {"model": state, "hyper_parameters": {"config": {"model": {"lora": model.lora}}}}


@needs_peft
def test_only_adapters_change_and_merged_weights_give_the_same(path: dict[str, Any]) -> None:
    model = adapted(**path)
    plain = nano_model(memory_dropout=0.0, **path)
    load_weights(plain.network, "base", content=saved(model))
    with torch.no_grad():  # an adapter adds nothing at first
        assert torch.equal(seen(model.eval())["pred_masks"], seen(plain.eval())["pred_masks"])
    before = {name: p.clone() for name, p in model.network.named_parameters()}
    gradients = train(model)
    assert gradients
    assert set(gradients) == {name for name in before if lora.is_adapter(name)}
    changed = {name for name, p in model.network.named_parameters() if not torch.equal(p, before[name])}
    assert [name for name, value in gradients.items() if not value] == []
    assert changed == set(gradients)
    load_weights(plain.network, "tuned", content=saved(model))
    with torch.no_grad():
        ours, merged = seen(model), seen(plain)
    for name in ("pred_masks", "iou_predictions", "object_score_logits"):
        scale = max(1.0, float(ours[name].abs().max()))
        assert float((ours[name] - merged[name]).abs().max()) <= 1e-5 * scale, name


@needs_peft
def test_merging_is_that_of_peft() -> None:
    model = adapted()
    train(model, 2)
    ours = whole_state("tuned", content=saved(model))
    for name, module in model.network.named_modules():
        if hasattr(module, "lora_A"):
            module.merge()
            torch.testing.assert_close(ours[f"{name}.weight"], module.weight, rtol=1e-6, atol=1e-6)


@needs_peft
def test_exports_to_both_forms_hold_merged_weights(tmp_path: Path) -> None:
    yaml = wide_yaml(tmp_path, image_size=SIZE)
    model = lively_model(yaml, SIZE, lora=SETTINGS, trainable_modules=[], memory_dropout=0.0)
    train(model, 2)
    write_training_checkpoint(tmp_path / "last.ckpt", model)
    export_checkpoint(tmp_path / "last.ckpt", tmp_path / "stock.pt")
    export_to_transformers(str(tmp_path / "last.ckpt"), tmp_path / "hf")
    expected = whole_state("tuned", content=saved(model))
    for place in ("last.ckpt", "stock.pt", "hf"):
        found = open_weights(str(tmp_path / place), device="cpu").model.network.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items()), place


def test_files_are_merged_without_peft() -> None:
    down, up = torch.randn(2, 3), torch.randn(5, 2)
    state = {"a.weight": torch.ones(5, 3), "a.lora_A.default.weight": down, "a.lora_B.default.weight": up}
    found = lora.merged({**state, "a.bias": torch.ones(5)}, {"rank": 2, "alpha": 6.0}, "x.ckpt")
    assert list(found) == ["a.weight", "a.bias"]
    torch.testing.assert_close(found["a.weight"], 1 + 3 * up @ down)
    assert lora.merged({"a.weight": up}, None, "x.ckpt")["a.weight"] is up


@pytest.mark.parametrize(
    ("change", "settings", "text"),
    [
        ({}, None, r"x.ckpt: holds adapters \(a, ...\) and no configuration"),
        ({"a.weight": torch.ones(4, 3)}, {"rank": 2, "alpha": 6.0}, "do not fit .* as at a; .* another base"),
        ({"a.weight": None}, {"rank": 2, "alpha": 6.0}, "another base"),
        ({"a.lora_A.default.weight": None}, {"rank": 2, "alpha": 6.0}, "another base"),
        ({}, {"rank": 3, "alpha": 6.0}, "another base"),
        ({"a.lora_A.default.weight": torch.ones(1, 3)}, {"rank": 2, "alpha": 6.0}, "another base"),
        ({}, {"rank": 0, "alpha": 6.0}, "no configuration"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(
    change: dict[str, Any], settings: dict[str, Any] | None, text: str
) -> None:
    state = {
        "a.weight": torch.ones(5, 3),
        "a.lora_A.default.weight": torch.ones(2, 3),
        "a.lora_B.default.weight": torch.ones(5, 2),
        **change,
    }
    with pytest.raises(CheckpointError, match=text):
        lora.merged({name: value for name, value in state.items() if value is not None}, settings, "x.ckpt")


def test_targets_are_modules_with_linear_layers() -> None:
    network = nano_model().network
    layers = lora.adapted_layers(network, ["mask_decoder", "image_encoder.trunk.blocks.0.*"])
    assert {name.split(".")[0] for name in layers} == {"sam_mask_decoder", "image_encoder"}
    assert "image_encoder.trunk.blocks.0.attn.qkv" in layers
    assert all(name in dict(network.named_modules()) for name in layers)
    for target in ("image_encoder.neck", "image_decoder"):
        with pytest.raises(ConfigError, match=rf"model.lora.targets: '{target}' matches no linear layer"):
            lora.adapted_layers(network, [target])


def test_what_trains_as_a_whole_gets_no_adapter() -> None:
    network = nano_model().network
    with pytest.raises(ConfigError, match=r"trainable_modules: 'sam_mask\*' matches sam_mask_decoder\."):
        lora.check_adapters(network, ["mask_decoder"], ["norms", "sam_mask*"])


def test_without_peft_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"model.lora: peft is not installed; `pip install .*\[lora\]'`"):
        adapted()


@needs_peft
def test_norms_and_biases_train_beside_adapters() -> None:
    model = adapted(trainable_modules=["norms"], lora={"targets": ["memory_attention"]})
    trains = {name for name, p in model.network.named_parameters() if p.requires_grad}
    own = {name for name in trains if not lora.is_adapter(name)}
    assert "memory_attention.layers.0.self_attn.q_proj.base_layer.bias" in own
    assert "memory_attention.layers.0.norm1.weight" in own
    assert not any(name.endswith("proj.base_layer.weight") for name in own)
    assert trains - own


@needs_peft
def test_dropout_of_adapters_is_the_same_in_backward() -> None:
    """The encoder's blocks recompute what their second linear layer reads."""
    block = adapted(lora={"dropout": 0.5}).network.image_encoder.trunk.blocks[0].train()
    first, second = block.mlp.layers
    adapter = second.lora_A["default"].weight
    torch.nn.init.ones_(second.lora_B["default"].weight)
    x, found = torch.randn(1, 4, 4, first.in_features), []
    for forward in (block._feed_forward, lambda x: second(block.mlp.act(first(x)))):
        torch.manual_seed(0)
        forward(x).square().sum().backward()
        found.append(adapter.grad.clone())
        adapter.grad = None
    torch.testing.assert_close(*found)


@needs_peft
def test_autocast_makes_no_float32_copies() -> None:
    layer = adapted().network.memory_attention.layers[0].linear1
    with torch.autocast("cpu", torch.bfloat16):
        kept: list[torch.dtype] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.dtype) or x, lambda x: x):
            layer(torch.randn(2, layer.in_features, dtype=torch.bfloat16))
    assert set(kept) == {torch.bfloat16}
