from __future__ import annotations

import pytest
import torch

from sam2vt.config import Config
from sam2vt.core.training.footprint import estimate as estimating
from sam2vt.core.training.footprint.estimate import estimate, knobs_that_fit
from sam2vt.core.training.footprint.out_of_memory import explain_out_of_memory
from sam2vt.core.training.footprint.step import StepFootprint
from sam2vt.errors import TrainingError


@pytest.fixture(autouse=True)
def _by_a_formula(monkeypatch) -> None:
    """A step that takes gigabytes, in no time; what a real one takes is tested where it is simulated."""

    def simulated(config: Config, device: str) -> StepFootprint:
        kept = 1.0 - 0.15 * len(config.model.recompute)
        pixels = config.dataset.video_clip_length * config.max_objects * config.model.image_size**2
        return StepFootprint(10**8, 10**8, 2 * 10**8, 10**6, int(1e6 * kept * pixels))

    monkeypatch.setattr(estimating, "simulate_step", simulated)


def test_knobs_take_less_than_the_limit_and_as_estimated(config) -> None:
    config.max_objects = config.model.max_objects = 3
    config.dataset.video_clip_length = 3
    limit = estimate(config, libraries=0).device_bytes - 1
    knobs = dict(knobs_that_fit(config, limit, libraries=0))
    assert {"max_objects=1", "dataset.video_clip_length=2"} <= knobs.keys()
    assert all(taken <= limit for taken in knobs.values())
    config.max_objects = config.model.max_objects = 1
    assert estimate(config, libraries=0).device_bytes == knobs["max_objects=1"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:131] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_the_error_names_what_would_fit(config, error) -> None:
    config.max_objects = config.model.max_objects = 3
    with pytest.raises(TrainingError) as raised, explain_out_of_memory(config):
        raise error
    message = str(raised.value)
    assert message.startswith("out of memory: a step takes about")
    assert str(error) in message
    assert raised.value.__cause__ is error
    lines = message.partition("would fit: ")[2].split("; ")
    assert [line.partition("=")[0] for line in lines[:2]] == ["model.recompute"] * 2
    assert len(lines) == 3
    assert all(line.endswith(" GB)") for line in lines)


@pytest.mark.parametrize(
    ("trained", "given", "offered"),
    [
        (["*"], ["mask_decoder"], ["memory", "image", "blocks"]),
        (["memory_attention"], [], ["memory", "image"]),
        (["memory_attention"], ["image_encoder"], ["image"]),
    ],
)
def test_what_is_recomputed_already_stays_so(config, trained, given, offered) -> None:
    config.model.trainable_modules, config.model.recompute = trained, given
    parts = [
        set(override.partition("=")[2].strip("[]").split(","))
        for override, _ in knobs_that_fit(config, 1e12, libraries=0)
        if override.startswith("model.recompute")
    ]
    without_encoder = {"memory_attention", "memory_encoder", "mask_decoder"}
    sets = {
        "memory": without_encoder,
        "image": {*without_encoder, "image_encoder"},
        "blocks": {*without_encoder, "image_encoder", "encoder_blocks"},
    }
    assert parts == [sets[name] for name in offered]


def test_where_no_single_setting_helps_it_says_so(config) -> None:
    config.max_objects = config.model.max_objects = 1
    config.model.image_size = 64
    config.dataset.video_clip_length = 2
    config.model.recompute = ["image_encoder", "encoder_blocks", "memory_attention", "memory_encoder"]
    config.model.recompute += ["mask_decoder"]
    with (
        pytest.raises(TrainingError, match="no single setting would make it fit"),
        explain_out_of_memory(config),
    ):
        raise MemoryError


def test_other_errors_pass(config) -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), explain_out_of_memory(config):
        raise RuntimeError("shapes differ")
