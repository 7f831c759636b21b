from __future__ import annotations

import copy

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sam2vt.config import LoraConfig
from sam2vt.core.model.sam2 import build_from_config
from sam2vt.core.model.tracking.heads import DecoderStep
from sam2vt.core.training.footprint.estimate import estimate
from sam2vt.core.training.footprint.step import (
    MAX_MMAP_THRESHOLD,
    TO_SPARE,
    Heap,
    LiveBytes,
    loss_in_pieces_of,
    simulate_step,
)
from sam2vt.core.training.loss import SAM2TrainingLoss
from sam2vt.core.training.optim import build_optimizer

SMALL, LARGE = 64 << 10, 1 << 20


def test_live_bytes_are_those_of_storages_between_first_use_and_end() -> None:
    known = torch.zeros(1000)
    with LiveBytes([known]) as live:
        first = known + 1
        view = first[:10]
        second = torch.cat([first, known])
        assert live.now == live.peak == 4 * 3000
        del first
        assert live.now == 4 * 3000  # the view holds it
        del view
        assert (live.now, live.peak) == (4 * 2000, 4 * 3000)
        del second
    assert live.now == 0


def test_weights_gradients_and_optimizer_are_those_of_the_real_training(config) -> None:
    found = simulate_step(config, "cpu")
    model = build_from_config(config.model).load("cpu", weights=False)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert found.weights == sum(4 * p.numel() for p in model.parameters())
    assert 0 < found.gradients <= sum(4 * p.numel() for p in trained)
    optimizer = build_optimizer(model.network, config.optimizer)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    per_weight = 2 * 4  # AdamW's two means
    assert found.optimizer == pytest.approx(per_weight * found.gradients / 4, rel=1e-3)
    size, frames, objects = config.model.image_size, 2, 2
    assert found.batch >= frames * size**2 * (3 + objects)
    assert found.activations > found.batch


def test_an_average_takes_as_much_as_the_weights_that_train(config) -> None:
    assert "averaged weights" not in estimate(config, libraries=0.0).on_device
    config.model.ema.decay = 0.999
    found = estimate(config, libraries=0.0)
    assert found.on_device["averaged weights"] == found.on_device["gradients"] > 0
    assert found.device_bytes == sum(found.on_device.values())


@pytest.mark.usefixtures("peft")
def test_of_adapters_only_their_own_gradients_and_moments_are_counted(config) -> None:
    config.model.trainable_modules = ["image_encoder", "memory_attention", "mask_decoder"]
    full = simulate_step(config, "cuda")
    config.model.trainable_modules, config.model.lora = [], LoraConfig(rank=8)
    found = simulate_step(config, "cuda")
    adapters = found.weights - full.weights
    assert 0 < adapters < 0.2 * full.weights
    assert found.gradients == adapters
    assert found.optimizer == pytest.approx(2 * adapters, rel=0.01)
    config.model.trainable_modules, config.model.lora = ["norms"], LoraConfig()
    assert 0 < simulate_step(config, "cuda").gradients < 0.1 * full.weights


def test_memory_grows_with_frames_and_objects_and_shrinks_by_recompute(config) -> None:
    def activations(**changed: int | list[str]) -> int:
        other = copy.deepcopy(config)
        other.dataset.video_clip_length = changed.get("frames", 2)
        other.max_objects = other.model.max_objects = changed.get("objects", 1)
        other.model.recompute = changed.get("recompute", [])
        return simulate_step(other, "cuda").activations

    three = activations(objects=3)
    assert three > 1.2 * activations()
    parts = ["memory_attention", "memory_encoder", "mask_decoder"]
    many = activations(frames=4, objects=3)
    assert many > 1.25 * three
    assert activations(frames=4, objects=3, recompute=parts) < 0.9 * many


def test_clicks_and_points_are_simulated_too(config) -> None:
    config.dataset.prompt_types = ["point"]
    without = simulate_step(config, "cuda").activations
    config.model.num_correction_clicks = 2
    assert simulate_step(config, "cuda").activations > without


def test_cached_features_stand_in_for_images_and_the_encoder(config) -> None:
    encoded = simulate_step(config, "cuda")
    config.dataset.feature_cache = "anywhere"
    cached = simulate_step(config, "cuda")
    assert encoded.frame_features == 0
    assert cached.frame_features == 2 * 64 * (16**2 + 8**2 + 4**2)  # bf16, before conv_s0 and conv_s1
    assert cached.activations <= encoded.activations  # the memory loop needs more than a frozen encoder


def test_half_precision_needs_less(config) -> None:
    full = simulate_step(config, "cuda").activations
    config.trainer.precision = "bf16-mixed"
    assert simulate_step(config, "cuda").activations < full


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_more_decoder_calls_take_no_more_full_size_masks(device: str) -> None:
    """Of each the loss holds its small masks a few times and the truth values of its targets, no floats."""
    size, small = 512, 128

    def peak(num_calls: int) -> int:
        with FakeTensorMode(allow_non_fake_inputs=True), loss_in_pieces_of(device):
            targets = torch.zeros(1, num_calls, 3, size, size, dtype=torch.bool)
            steps = [
                DecoderStep(
                    torch.zeros(3, 3, dtype=torch.long),
                    torch.zeros(3, 3, small, small, requires_grad=True),
                    torch.zeros(3, 3),
                    torch.zeros(3, 1),
                )
                for _ in range(num_calls)
            ]
            scored = torch.ones(1, num_calls, 3, dtype=torch.bool)
            with LiveBytes([targets, *(step.multimasks for step in steps)]) as live:
                masks = torch.zeros(1, num_calls, 3, small, small)
                SAM2TrainingLoss()(masks, targets, scored=scored, steps=steps).backward()
        return live.peak

    many, more = 6, 9  # more than a piece of a GPU holds
    of_a_call = 3 * (3 * small**2 * 4 + size**2)
    assert peak(more) - peak(many) < (more - many) * 4 * of_a_call
    assert peak(more) - peak(many) < (more - many) * 3 * size**2 * 4


def test_blocks_beyond_the_threshold_are_given_back_and_raise_it() -> None:
    heap = Heap()
    heap.release(heap.allocate(LARGE))
    heap.release(heap.allocate(LARGE // 2))  # lies in the heap from now on
    assert heap.peak == LARGE
    first, second = heap.allocate(LARGE // 2), heap.allocate(SMALL)
    heap.release(first)
    heap.allocate(LARGE // 2 - TO_SPARE)
    assert heap.peak == LARGE  # in the place of the first
    heap.allocate(LARGE - SMALL)
    assert heap.peak == LARGE // 2 + SMALL + LARGE - SMALL
    assert second[0] == LARGE // 2


def test_a_block_does_not_fit_where_one_of_its_size_was() -> None:
    heap = Heap()
    first, _ = heap.allocate(SMALL), heap.allocate(SMALL)
    heap.release(first)
    heap.allocate(SMALL)
    assert heap.peak == 3 * SMALL


def test_freed_neighbours_are_joined() -> None:
    heap = Heap()
    blocks = [heap.allocate(SMALL) for _ in range(4)]
    for block in (blocks[0], blocks[2], blocks[1]):
        heap.release(block)
    assert heap.allocate(3 * SMALL // 2) == (0, 3 * SMALL // 2)
    assert heap.peak == 4 * SMALL


def test_huge_blocks_never_stay() -> None:
    heap = Heap()
    huge = 2 * MAX_MMAP_THRESHOLD
    for _ in range(3):
        heap.release(heap.allocate(huge))
    assert heap.peak == huge
    assert heap.allocate(huge)[0] == -1


def test_a_process_that_keeps_its_memory_uses_huge_blocks_again() -> None:
    heap = Heap(keeps=True)
    huge = 2 * MAX_MMAP_THRESHOLD
    heap.release(heap.allocate(huge))
    assert heap.allocate(huge - TO_SPARE) == (0, huge - TO_SPARE)
    heap.allocate(huge)
    assert heap.peak == 2 * huge - TO_SPARE
