"""Whole videos as SAM 2's video predictor tracks them, and where one meaning differs from another."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import cv2
import pytest
import sam2
import torch
import torch.nn.functional as F

from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.model.tracking.postprocessing import fill_holes

from ..conftest import NANO, SIZE, make_clips, prompt
from ..stock import StockTracker

TINY = "configs/sam2.1/sam2.1_hiera_t.yaml"
KINDS = ("mask", "point", "box")
NUM_FRAMES, VIDEO = 4, (96, 160)


def random_model(network: str = NANO, **options) -> SAM2Model:
    """Random weights, with objects that are always there."""
    torch.manual_seed(3)
    model = SAM2Model(None, network, device="cpu", image_size=SIZE, **options).load().eval()
    head = model.network.sam_mask_decoder.pred_obj_score_head
    torch.nn.init.constant_(head.layers[-1].bias, 10.0)
    return model


def clip(num_objects: int = 1, num_frames: int = NUM_FRAMES):
    images, masks = make_clips(1, num_frames, num_objects)
    return images[0], masks[0]


def tracked(model: SAM2Model, frames, *prompts, size=VIDEO) -> dict[int, torch.Tensor]:
    """Masks bool [K, height, width] by frame, of the objects prompted so far."""
    found = {}
    for prediction in model.propagate(frames, list(prompts), len(frames)):
        if prediction.object_indices:
            full = F.interpolate(prediction.masks[None], size, mode="bilinear", align_corners=False)
            found[prediction.frame_index] = full[0] > 0
    return found


def iou(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a & b).sum()) / max(1.0, float((a | b).sum()))


def agree(ours: dict[int, torch.Tensor], theirs: dict[int, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for frame, mask in ours.items():
        assert 0.01 < float(mask.float().mean()) < 0.99, "the masks are not alive enough to compare"
        assert iou(mask, theirs[frame]) >= 0.995, frame


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("network", [NANO, TINY])
def test_masks_are_those_of_the_stock_predictor(network: str, multimask: bool, tmp_path: Path) -> None:
    """As its users build it; without several masks on tracked frames, single ones may give way to them."""
    frames, masks = clip()
    model = random_model(network, multimask_output_for_tracking=multimask)
    stock = StockTracker(model, frames, VIDEO, tmp_path)
    for kind in KINDS:
        given = prompt(kind, masks[0, 0], 0)
        agree(tracked(model, frames, given), stock.masks(given))


def test_without_it_masks_are_those_of_the_plain_network(tmp_path: Path) -> None:
    frames, masks = clip()
    model = random_model(postprocessing="none", multimask_output_for_tracking=False)
    square = (SIZE, SIZE)  # masks at the model's size: they are not resized again
    stock = StockTracker(model, frames, square, tmp_path, apply_postprocessing=False)
    for kind in ("point", "box"):
        given = prompt(kind, masks[0, 0], 0)
        ours = tracked(model, frames, given, size=square)
        agree(ours, stock.masks(given))
        model.postprocessing = "stock"
        changed = tracked(model, frames, given, size=square)
        model.postprocessing = "none"
        assert min(iou(ours[frame], changed[frame]) for frame in ours) < 0.99  # so the switch matters here


def test_the_network_is_as_it_was_between_two_frames_and_afterwards() -> None:
    frames, masks = clip()
    model = random_model()
    decoder = model.network.sam_mask_decoder
    for _ in model.propagate(frames, [prompt("box", masks[0, 0], 0)], NUM_FRAMES):
        assert not decoder.dynamic_multimask_via_stability
        assert not model.network.binarize_mask_from_pts_for_mem_enc


def test_holes_stay_where_sam_2_has_no_extension() -> None:
    masks = torch.ones(1, 1, 8, 8)
    masks[..., 3, 3] = -1.0
    assert torch.equal(fill_holes(masks), masks)


class OfADevice(torch.Tensor):
    """A mask that says to be on a GPU, where SAM 2's kernel runs."""

    is_cuda = True  # type: ignore[assignment]


def components(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As SAM 2's kernel: the label of each pixel's component, and the component's area; 0 elsewhere."""
    assert mask.dtype == torch.uint8
    labels, areas = torch.zeros_like(mask, dtype=torch.int32), torch.zeros_like(mask, dtype=torch.int32)
    for i, image in enumerate(mask[:, 0].numpy()):
        _, found, stats, _ = cv2.connectedComponentsWithStats(image, connectivity=8)
        labels[i, 0] = torch.from_numpy(found)
        areas[i, 0] = torch.from_numpy(stats[found, cv2.CC_STAT_AREA]) * (labels[i, 0] > 0)
    return labels, areas


def test_small_holes_are_filled_where_sam_2_has_its_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = ModuleType("sam2._C")
    kernel.__spec__ = ModuleSpec("sam2._C", None)
    kernel.get_connected_componnets = components  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sam2._C", kernel)
    monkeypatch.setattr(sam2, "_C", kernel, raising=False)
    masks = torch.full((2, 1, 16, 16), 3.0)
    masks[0, 0, 2:4, 2:6] = -1.0  # 8 pixels
    masks[0, 0, 9:12, 9:12] = -1.0  # 9 pixels
    masks[1] = -2.0  # all ground
    filled = fill_holes(masks.as_subclass(OfADevice)).as_subclass(torch.Tensor)
    expected = masks.clone()
    expected[0, 0, 2:4, 2:6] = 0.1
    assert torch.equal(filled, expected)


def test_a_late_object_is_tracked_from_its_prompt_on(tmp_path: Path) -> None:
    """The predictor, given all prompts at once, tracks it before, too: from the future, into its memory."""
    frames, masks = clip(2)
    early, late = prompt("mask", masks[0, 0], 0), prompt("mask", masks[2, 1], 1, 2)
    model = random_model()
    ours = tracked(model, frames, early, late)
    assert [len(ours[frame]) for frame in range(NUM_FRAMES)] == [1, 1, 2, 2]
    stock = StockTracker(model, frames, VIDEO, tmp_path)
    with torch.autocast("cpu", torch.bfloat16):  # without pointers from the past it needs a single type
        assert [len(mask) for mask in stock.masks(early, late).values()] == [2] * NUM_FRAMES
    agree({frame: ours[frame][1:] for frame in (2, 3)}, stock.masks(late, start=2))
    agree({frame: ours[frame][:1] for frame in range(NUM_FRAMES)}, stock.masks(early))


def test_a_later_prompt_reaches_back_within_a_clip_alone() -> None:
    """Training and its validation loss see a clip as a whole, tracking sees one frame after the other."""
    frames, masks = clip()
    first, later = prompt("mask", masks[0, 0], 0), prompt("mask", masks[3, 0], 0, 3)
    model = random_model(postprocessing="none")
    once, twice = tracked(model, frames, first), tracked(model, frames, first, later)
    assert all(torch.equal(once[frame], twice[frame]) for frame in (0, 1, 2))
    with torch.no_grad():
        logits = [
            model(frames[None], masks[None], [[*given]])["pred_masks"][0, 1, 0]
            for given in ([first], [first, later])
        ]
    assert not torch.allclose(*logits, atol=1e-4)


def test_a_mask_prompt_is_remembered_as_given_or_as_the_predictor_shows_it() -> None:
    """At full size as SAM2Train has it, or from a quarter of it: the frames after it differ."""
    frames, masks = clip()
    given = prompt("mask", masks[0, 0], 0)
    plain, stock = (
        list(random_model(postprocessing=how).propagate(frames, [given], NUM_FRAMES))
        for how in ("none", "stock")
    )
    assert plain[0].masks.shape[-1] == SIZE
    assert stock[0].masks.shape[-1] == SIZE // 4
    full = F.interpolate(stock[1].masks[None], (SIZE, SIZE), mode="bilinear", align_corners=False)[0]
    assert not torch.allclose(plain[1].masks, full, atol=1e-4)
