"""What a training step costs, counted: FLOPs, dispatched operations, looks from the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sam2vt.config import OptimizerConfig
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.model.tracking.heads import DecoderStep
from sam2vt.core.training.callbacks.averaging import AverageWeights
from sam2vt.core.training.loss import SAM2TrainingLoss
from sam2vt.core.training.optim import build_optimizer

from ..operations import Operations

SIZE = 128


def training_step(
    num_frames: int,
    num_objects: int,
    num_clips: int = 1,
    of_model: Mapping[str, Any] = {},
    of_loss: Mapping[str, Any] = {},
) -> Callable[[], None]:
    """Forward, loss, backward, clipping and update of the nano network on squares that move."""
    torch.manual_seed(0)
    settings = {"trainable_modules": ["*"], "device": "cpu", "image_size": SIZE, **of_model}
    model = SAM2Model(config_path="network/sam2.1_nano.yaml", **settings)
    model.load().train()
    loss = SAM2TrainingLoss(focal_weight=20.0, **of_loss)
    optimizer = build_optimizer(model.network, OptimizerConfig())
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    images = torch.randint(0, 256, (num_clips, num_frames, 3, SIZE, SIZE), dtype=torch.uint8)
    masks = torch.zeros(num_clips, num_frames, num_objects, SIZE, SIZE, dtype=torch.bool)
    for t in range(num_frames):
        for n in range(num_objects):
            masks[:, t, n, 10 * n : 10 * n + 32, 4 * t : 4 * t + 32] = True
    valid = torch.ones(masks.shape[:3], dtype=torch.bool)
    prompts = [
        [
            {"type": "mask", "mask": masks[clip, 0, n], "object_index": n, "frame_index": 0}
            for n in range(num_objects)
        ]
        for clip in range(num_clips)
    ]

    def step() -> None:
        out = model(images, masks, prompts, valid_masks=valid)
        given = {name: out[name] for name in ("iou_predictions", "object_score_logits", "scored", "steps")}
        loss(out["pred_masks"], masks, valid, **given).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.1)
        optimizer.step()
        optimizer.zero_grad()

    return step


def averaging() -> tuple[Callable[[], None], int]:
    """What the callback does after a step of the same network, and the number of weights."""
    model = SAM2Model(
        config_path="network/sam2.1_nano.yaml", trainable_modules=["*"], device="cpu", image_size=SIZE
    )
    average, trainer = AverageWeights(0.9), SimpleNamespace(global_step=0)
    average.on_fit_start(trainer, model.load())  # type: ignore[arg-type]
    average.on_train_batch_end(trainer)  # type: ignore[arg-type]

    def after_a_step() -> None:
        trainer.global_step += 1
        average.on_train_batch_end(trainer)  # type: ignore[arg-type]

    return after_a_step, model.count_trainable_parameters()


def gigaflops(num_frames: int, num_objects: int) -> float:
    with FlopCounterMode(display=False) as counter:
        training_step(num_frames, num_objects)()
    return counter.get_total_flops() / 1e9


def operations(num_frames: int, num_objects: int, num_clips: int = 1, **settings: Any) -> Operations:
    step = training_step(num_frames, num_objects, num_clips, **settings)
    step()  # position codes are made once
    with Operations() as counted:
        step()
    return counted


def test_flops_are_linear_in_the_objects() -> None:
    one, two, eight = (gigaflops(4, n) for n in (1, 2, 8))
    assert eight == pytest.approx(one + 7 * (two - one), rel=0.05)
    assert two - one < one  # another object is tracked, but not encoded


def test_flops_are_linear_in_the_frames() -> None:
    """From where a clip is long enough for objects to be remembered."""
    four, six, eight = (gigaflops(t, 1) for t in (4, 6, 8))
    assert eight == pytest.approx(six + (six - four), rel=0.05)


def test_eight_objects_take_as_many_operations_as_one() -> None:
    # The gradient of a bias is a sum only where there is more than one row.
    assert operations(4, 8).number < 1.06 * operations(4, 1).number


def test_objects_of_several_clips_are_tracked_together() -> None:
    assert operations(4, 2, num_clips=4).number < 1.05 * operations(4, 2).number


def test_an_average_of_the_weights_takes_at_most_2_percent_of_a_step() -> None:
    """Of its operations and of its FLOPs, even where a step is as short as can be."""
    after_a_step, num_weights = averaging()
    with Operations() as counted:
        after_a_step()
    assert counted.number == 1  # one for all tensors, however many
    assert counted.looks == []
    assert counted.number <= 0.02 * operations(2, 1).number
    per_weight = 3  # a subtraction, a product and a sum
    assert per_weight * num_weights <= 0.02 * gigaflops(2, 1) * 1e9


def test_a_loss_measures_many_decoder_calls_as_one() -> None:
    def number(num_calls: int) -> int:
        targets = torch.rand(1, num_calls, 1, 32, 32) > 0.5
        steps = [
            DecoderStep(
                torch.tensor([[0, t, 0]]), torch.randn(1, 3, 8, 8), torch.rand(1, 3), torch.rand(1, 1)
            )
            for t in range(num_calls)
        ]
        scored = torch.ones(1, num_calls, 1, dtype=torch.bool)
        with Operations() as counted:
            SAM2TrainingLoss()(torch.zeros(1, num_calls, 1, 8, 8), targets, scored=scored, steps=steps)
        return counted.number

    assert number(16) == number(2)


@pytest.mark.parametrize(
    ("of_model", "of_loss"),
    [
        ({}, {}),
        ({"memory_dropout": 0.1}, {}),
        ({}, {"resolution": "low"}),
        ({}, {"num_points": 64}),
        ({"encoder_precision": "bf16", "trainable_modules": ["mask_decoder"]}, {}),
    ],
)
def test_no_value_is_looked_at_in_a_step(of_model: dict[str, Any], of_loss: dict[str, Any]) -> None:
    assert operations(4, 2, of_model=of_model, of_loss=of_loss).looks == []
