"""Exports against `transformers.Sam2VideoModel` itself, and its files read here."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sam2vt.core.model.build import network_config
from sam2vt.core.model.export import export_to_transformers, exporting
from sam2vt.core.model.sam2 import SAM2Model

from .conftest import prompt
from .wide_nano import lively_model, wide_export

NUM_FRAMES = 5
Pair = tuple[SAM2Model, Any, Path]  # our network, theirs, and its folder
TINY, BASE_PLUS = (f"configs/sam2.1/sam2.1_hiera_{size}.yaml" for size in ("t", "b+"))


def smooth_frames(size: int, number: int) -> torch.Tensor:
    """Frames uint8 [T, 3, H, W] of smooth random textures."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(number, 3, size // 16, size // 16, generator=generator) * 255
    return F.interpolate(small, size=(size, size), mode="bilinear").to(torch.uint8)


@pytest.fixture(scope="module", autouse=True)
def transformers(apart: None) -> ModuleType:
    return importlib.import_module("transformers")


@pytest.fixture(scope="module")
def pair(transformers, tmp_path_factory) -> Pair:
    return _pair(tmp_path_factory.mktemp("hf"), 128)


def _pair(folder: Path, size: int) -> Pair:
    ours, path = wide_export(folder, size)
    return ours, *_exported(path, folder)


def _pair_of(yaml: str, folder: Path, size: int) -> Pair:
    """Return a network of Meta's with random weights, as `_pair`."""
    ours = lively_model(yaml, size)
    with exporting(folder / "start.pt") as write:
        write(ours.network.state_dict(), network_config(yaml, size))
    return ours, *_exported(folder / "start.pt", folder)


def _exported(path: Path, folder: Path) -> tuple[Any, Path]:
    import transformers

    out = export_to_transformers(str(path), folder / "tuned")
    theirs, report = transformers.Sam2VideoModel.from_pretrained(out, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return theirs.eval(), out


def _compare(ours: SAM2Model, theirs, kind: str, number: int = NUM_FRAMES) -> tuple[float, float]:
    """Return the largest difference of the logits over all frames, and the largest logit."""
    size = ours.image_size
    frames = smooth_frames(size, number)
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[size // 4 : size // 2, size // 3 : 3 * size // 4] = True
    given = prompt(kind, mask, 0)
    own = torch.cat([each.masks for each in ours.propagate(frames, [given], number)])
    session = _session(ours, frames)
    place = session.obj_id_to_idx(1)
    if kind == "mask":
        session.add_mask_inputs(place, 0, mask[None, None].float())
    else:
        points = {name: given[name][None, None] for name in ("point_coords", "point_labels")}
        session.add_point_inputs(place, 0, points)
    session.obj_with_new_inputs.append(1)
    theirs(session, frame_idx=0)
    found = torch.cat([each.pred_masks[:, 0] for each in theirs.propagate_in_video_iterator(session)])
    assert own.shape == found.shape
    return (own - found).abs().max().item(), found.abs().max().item()


def _session(ours: SAM2Model, frames: torch.Tensor):
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    pixels = (frames.float() / 255 - ours.pixel_mean) / ours.pixel_std
    size = frames.shape[-1]
    return Sam2VideoInferenceSession(video=pixels, video_height=size, video_width=size, dtype=torch.float32)


@pytest.mark.parametrize("kind", ["point", "two points", "box"])
def test_logits_are_those_of_our_stock_tracking(pair, kind: str) -> None:
    ours, theirs, _ = pair
    difference, largest = _compare(ours, theirs, kind)
    assert difference < 1e-4
    assert largest > 5  # presence holds, and the masks are not flat


@pytest.mark.parametrize("size", [512, 1024])
def test_logits_at_another_size(tmp_path, size: int) -> None:
    ours, theirs, _ = _pair(tmp_path, size)
    assert _compare(ours, theirs, "box", 3)[0] < 1e-4


@pytest.mark.parametrize("yaml", [TINY, BASE_PLUS])
def test_metas_networks_there_and_back(tmp_path, yaml: str) -> None:
    ours, theirs, out = _pair_of(yaml, tmp_path, 128)
    for kind in ("point", "box"):
        difference, largest = _compare(ours, theirs, kind, 3)
        assert difference < 1e-4
        assert largest > 5
    back = SAM2Model(out, out / "config.json", device="cpu", image_size=128).load().network.state_dict()
    assert all(torch.equal(back[name], value) for name, value in ours.network.state_dict().items())


@pytest.mark.cluster
@pytest.mark.parametrize("size", [512, 1024])
@pytest.mark.parametrize("yaml", [TINY, BASE_PLUS])
def test_metas_networks_at_the_sizes_of_use(tmp_path, monkeypatch, yaml: str, size: int) -> None:
    ours, theirs, _ = _pair_of(yaml, tmp_path, size)
    for kind in ("point", "box") if size == 512 else ("point",):  # one takes a minute at 1024
        assert _compare(ours, theirs, kind, 2)[0] < 1e-4  # the second frame sees the memory of the first
    _remember_as_sam2(theirs, monkeypatch)
    assert _compare(ours, theirs, "mask", 2)[0] < 1e-4


def test_a_mask_prompt_is_remembered_in_another_way(pair, monkeypatch) -> None:
    """SAM 2's predictor decodes the pointer of a mask prompt as a single mask, and remembers the mask as it
    shows it; transformers takes the best of three, and the mask at full size. Nothing else differs.
    """
    ours, theirs, _ = pair
    difference, largest = _compare(ours, theirs, "mask")
    assert 1e-4 < difference < 0.01 * largest
    _remember_as_sam2(theirs, monkeypatch)
    assert _compare(ours, theirs, "mask")[0] < 1e-4


def _remember_as_sam2(theirs, monkeypatch) -> None:
    """Change both for mask prompts."""
    decode, use = theirs._single_frame_forward, theirs._use_mask_as_output

    def decode_single(**how):
        return decode(**how, **({} if how.get("input_masks") is None else {"multimask_output": False}))

    def remember_shown(*given):
        out = use(*given)
        size = (theirs.image_size, theirs.image_size)
        out.high_res_masks = F.interpolate(out.pred_masks, size=size, mode="bilinear", align_corners=False)
        return out

    monkeypatch.setattr(theirs, "_single_frame_forward", decode_single)
    monkeypatch.setattr(theirs, "_use_mask_as_output", remember_shown)


def test_the_processor_scales_frames_and_clicks_to_the_image_size(transformers, pair) -> None:
    processor = transformers.Sam2VideoProcessor.from_pretrained(pair[2])
    frames = torch.randint(0, 255, (2, 3, 90, 160), dtype=torch.uint8)
    session = processor.init_video_session(video=list(frames), dtype=torch.float32)
    assert session.get_frame(0).shape == (3, 128, 128)
    processor.add_inputs_to_inference_session(
        inference_session=session, frame_idx=0, obj_ids=1, input_points=[[[[80, 45]]]], input_labels=[[[1]]]
    )
    assert session.point_inputs_per_obj[0][0]["point_coords"].flatten().tolist() == [64, 64]


def test_the_code_of_the_model_card_runs(pair, monkeypatch) -> None:
    _, _, folder = pair
    monkeypatch.chdir(folder.parent)
    _, _, code = (folder / "README.md").read_text().partition("```python\n")
    shown: dict = {"frames": list(torch.randint(0, 255, (2, 270, 640, 3), dtype=torch.uint8).numpy())}
    exec(code.partition("```")[0], shown)
    assert shown["masks"].shape == (1, 1, 270, 640)
    assert shown["masks"].dtype == torch.bool
    assert shown["output"].frame_idx == 1


def test_what_transformers_saves_comes_back_bit_for_bit(pair, tmp_path, caplog) -> None:
    ours, theirs, _ = pair
    theirs.save_pretrained(tmp_path / "saved")
    yaml = tmp_path / "saved" / "config.json"
    with caplog.at_level(logging.WARNING):
        back = SAM2Model(tmp_path / "saved", yaml, device="cpu", image_size=128).load()
    state = back.network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in ours.network.state_dict().items())
