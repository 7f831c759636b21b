from __future__ import annotations

import pytest
import torch

from sam2vt.core.training.memory import out_of_memory
from sam2vt.core.training.memory.estimate import estimate, knobs_that_fit
from sam2vt.core.training.memory.out_of_memory import explain_out_of_memory
from sam2vt.errors import TrainingError


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
def test_the_error_names_what_would_fit(config, error, monkeypatch) -> None:
    # Most of what so small a model takes is fixed.
    monkeypatch.setattr(out_of_memory, "SAFE_SHARE", 0.999)
    monkeypatch.setattr(out_of_memory, "process_bytes", lambda: 0.0)
    config.max_objects = config.model.max_objects = 3
    with pytest.raises(TrainingError) as raised, explain_out_of_memory(config):
        raise error
    message = str(raised.value)
    assert message.startswith("out of memory: a step takes about")
    assert str(error) in message
    assert raised.value.__cause__ is error
    lines = message.partition("would fit: ")[2].split("; ")
    assert 1 <= len(lines) <= 3
    assert all("=" in line and line.endswith(" GB)") for line in lines)


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
