"""The device, compiled parts and activation checkpointing: the same losses and gradients."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from sam2vt.config import ModelConfig
from sam2vt.core.model import execution
from sam2vt.core.model.execution import resolve_device
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.errors import ConfigError
from sam2vt.settings import choices

from .conftest import Kept, centre_clicks, make_clips, nano_model, prompt

COMPILABLE, RECOMPUTABLE = choices(ModelConfig, "compile"), choices(ModelConfig, "recompute")


class Captured:
    """A compiler that runs what is captured as it is, and counts."""

    def __init__(self) -> None:
        self.graphs = 0
        self.runs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1

        def run(*arguments):
            self.runs += 1
            return graph.forward(*arguments)

        return run


@pytest.fixture(autouse=True)
def captured(monkeypatch) -> Captured:
    """Every part is captured as it would be; generating code for all of them takes minutes."""
    torch.compiler.reset()
    found = Captured()
    monkeypatch.setattr(execution, "OPTIONS", {"backend": found, "fullgraph": True})
    monkeypatch.setattr(execution, "_try_compiler", lambda device: None)
    yield found
    torch.compiler.reset()


def trained(**settings) -> SAM2Model:
    model = nano_model(**{"memory_dropout": 0.0, **settings}).train()
    model.compile_parts()
    return model


def step(model: SAM2Model) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    images, masks = make_clips(1, 4, 2)
    out = model(images, masks, [[prompt("mask", masks[0, 0, n], n) for n in range(2)]])
    (out["pred_masks"].square().mean() + sum(each.ious.sum() for each in out["steps"])).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return out["pred_masks"].detach(), gradients


def seeded_step(model: SAM2Model, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    return step(model)


def update(model: SAM2Model) -> None:
    """Change the weights in place, which what is compiled has to see."""
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    model.zero_grad()


@pytest.mark.parametrize(("pad_memory", "dropout"), [(False, 0.1), (True, 0.0)])
def test_compiled_parts_train_the_same(pad_memory: bool, dropout: float, captured: Captured) -> None:
    # Without speedups and padding eager and captured code draw the same numbers in the same order.
    settings = {"memory_dropout": dropout, "speedups": "none" if dropout else "auto"}
    eager = trained(**settings)
    compiled = trained(compile=COMPILABLE, pad_memory=pad_memory, **settings)
    graphs = []
    for seed in range(2):
        masks, gradients = seeded_step(eager, seed)
        assert captured.graphs == sum(graphs[-1:])
        their_masks, their_gradients = seeded_step(compiled, seed)
        graphs.append(captured.graphs)
        torch.testing.assert_close(their_masks, masks, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(their_gradients, gradients, rtol=1e-4, atol=1e-6)
        update(eager)
        update(compiled)
    assert graphs[0] == graphs[1]  # another step is compiled already


def test_padded_memory_is_captured_once(captured: Captured) -> None:
    step(trained(compile=["memory_attention"]))
    assert captured.graphs == 2  # of one frame, and of any number
    torch.compiler.reset()
    captured.graphs = 0
    step(trained(compile=["memory_attention"], pad_memory=True))
    assert captured.graphs == 1


def test_weights_keep_their_names() -> None:
    assert trained(compile=COMPILABLE).state_dict().keys() == trained().state_dict().keys()


@pytest.mark.parametrize(
    ("parts", "recompute"), [(["image_encoder"], ["encoder_blocks"]), (COMPILABLE, list(COMPILABLE))]
)
def test_it_goes_with_what_is_computed_again(
    parts: list[str], recompute: list[str], captured: Captured
) -> None:
    masks, gradients = step(trained())
    their_masks, their_gradients = step(trained(compile=parts, recompute=recompute))
    assert captured.runs
    torch.testing.assert_close(their_masks, masks, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(their_gradients, gradients, rtol=1e-4, atol=1e-6)


def test_validation_runs_as_ever(captured: Captured) -> None:
    images, masks = make_clips(1, 3, 1)
    given = [prompt("mask", masks[0, 0, 0], 0)]
    model = trained(compile=COMPILABLE).eval()
    with torch.no_grad():
        model(images, masks, [given])
        list(model.propagate(images[0], given, 3))
    model.train().keep(images[0])  # for a cache that others read
    assert captured.graphs == 0


def test_graphs_need_a_gpu() -> None:
    model = nano_model(compile=["image_encoder"], cuda_graphs=True)
    with pytest.raises(ConfigError, match=r"model.cuda_graphs: needs a CUDA GPU, and the model is on cpu"):
        model.compile_parts()


COMPILES = """
import torch
from sam2vt.core.model import execution
execution._try_compiler(torch.device("cpu"))
print("works")
"""


def test_a_compiler_is_tried(tmp_path) -> None:
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "works\n", done.stderr


def test_no_compiler_is_an_error_of_the_configuration(tmp_path) -> None:
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "CXX": str(tmp_path / "none")}
    command = [sys.executable, "-c", COMPILES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "ConfigError: model.compile: torch.compile does not work here" in done.stderr
    assert "Install a C++ compiler" in done.stderr


def test_between_the_frames_of_a_video_others_may_run_compiled(captured: Captured) -> None:
    images, masks = make_clips(1, 3, 1)
    parts = ["memory_encoder"]
    tracked = trained(compile=parts).propagate(images[0], [prompt("mask", masks[0, 0, 0], 0)], 3)
    next(tracked)
    step(trained(compile=parts))
    assert captured.runs
    tracked.close()


def test_auto_is_a_gpu_where_there_is_one() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == torch.device("cpu")


def test_an_unknown_or_absent_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="warp9"):
        resolve_device("warp9")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no GPU"):
            resolve_device("cuda")


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
