"""Masks and logits of real clips against those of SAM 2's own video predictor, as each is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.model import build
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.model.tracking import frame_call
from sam2vt.core.prediction.engine import Engine
from sam2vt.core.prediction.tracker import Tracker
from sam2vt.core.prediction.types import FrameMasks
from sam2vt.core.types import VideoRecord

from ..model.conftest import NANO, SIZE
from ..model.stock import set_up_hydra

CLIPS = ("pumavos_chair", "davis17_bmx-trees", "davis17_schoolgirls_mp4")
TINY = "configs/sam2.1/sam2.1_hiera_t.yaml"
NUM_FRAMES = 5
SQUARE = (SIZE, SIZE)


@pytest.fixture(
    params=[(NANO, clip) for clip in CLIPS] + [(TINY, CLIPS[0])], ids=lambda p: f"{Path(p[0]).stem}-{p[1]}"
)
def case(request: pytest.FixtureRequest, shared_data: Path, tmp_path: Path) -> tuple[Path, VideoRecord]:
    """Random weights in which objects are always there, and a real clip with two objects if it has them."""
    network, clip = request.param
    torch.manual_seed(3)
    model = SAM2Model(None, network, device="cpu", image_size=SIZE).load().eval()
    torch.nn.init.constant_(model.network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)
    weights = tmp_path / "random.pt"
    torch.save({"model": model.network.state_dict()}, weights)
    from omegaconf import OmegaConf

    config = build.network_config(network, SIZE, {})
    weights.with_suffix(".yaml").write_text("# @package _global_\n" + OmegaConf.to_yaml(config))
    return weights, load_records("auto", shared_data / clip)[0]


def write_jpegs(record: VideoRecord, folder: Path, size: tuple[int, int] | None) -> Path:
    """The first frames as the predictor's loader wants them; at `size` nobody resizes them again."""
    folder.mkdir()
    for index, frame in enumerate(read_frames(record, range(NUM_FRAMES), size)):
        Image.fromarray(frame).save(folder / f"{index:05d}.jpg", quality=100, subsampling=0)
    return folder


def predictor(weights: Path, frames: Path):
    from sam2.build_sam import build_sam2_video_predictor

    set_up_hydra()
    stock = build_sam2_video_predictor(f"//{weights.with_suffix('.yaml')}", str(weights), device="cpu")
    return stock, stock.init_state(str(frames))


def propagated(stock, state, **how) -> Iterator[tuple[int, dict[int, torch.Tensor]]]:
    """Logits [height, width] by object, of one frame after the other."""
    for frame, ids, logits in stock.propagate_in_video(state, **how):
        yield frame, dict(zip(ids, logits[:, 0]))


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> dict[int, dict[int, torch.Tensor]]:
    """The logits of which the latest masks of a frame were made: frame -> object -> [height, width]."""
    seen, make = {}, Engine.masks

    def record(engine, prediction, frame, height, width, names):
        full = F.interpolate(prediction.masks[None], (height, width), mode="bilinear", align_corners=False)
        seen[frame] = dict(zip(prediction.object_indices, full[0]))
        return make(engine, prediction, frame, height, width, names)

    monkeypatch.setattr(Engine, "masks", record)
    return seen


def keep_memory_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let both sides store memory as float32: what is left of bfloat16 would hide a difference."""
    from sam2 import sam2_video_predictor

    whole = SimpleNamespace(**{**vars(torch), "bfloat16": torch.float32})
    monkeypatch.setattr(sam2_video_predictor, "torch", whole)
    monkeypatch.setattr(frame_call, "as_stored", lambda features: features)


def close(ours: dict[int, torch.Tensor], theirs: dict[int, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for object_id, logits in ours.items():
        assert torch.allclose(logits, theirs[object_id], rtol=0, atol=1e-3), object_id


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum()) / max(1.0, float((a | b).sum()))


def agree(ours: list[FrameMasks], theirs: dict[int, dict[int, torch.Tensor]]) -> None:
    assert sorted(each.frame for each in ours) == sorted(theirs)
    for masks in ours:
        assert masks.masks.keys() == theirs[masks.frame].keys()
        for object_id, mask in masks.masks.items():
            assert 0.005 < mask.mean() < 0.995, "the masks are not alive enough to compare"
            other = (theirs[masks.frame][object_id] > 0).numpy()
            assert iou(mask, other) >= 0.995, (masks.frame, object_id)


def inside(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    middle = len(rows) // 2
    return float(columns[middle]), float(rows[middle])


def box_of(mask: np.ndarray) -> tuple[float, ...]:
    rows, columns = np.nonzero(mask)
    return tuple(map(float, (columns.min(), rows.min(), columns.max(), rows.max())))


def scaled(mask: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize(SQUARE, Image.Resampling.NEAREST)).copy()


def both_ways(stock, state) -> dict[int, dict[int, torch.Tensor]]:
    """What the predictor tracks from its prompt on, then from there back."""
    forward = dict(propagated(stock, state))
    return {**dict(propagated(stock, state, reverse=True)), **forward}


def show(tracker: Tracker, stock, state, kind: str, mask: np.ndarray) -> None:
    """Show one object to both on the middle frame, where it has this mask."""
    if kind == "click":
        tracker.add_prompt(1, points=[inside(mask)], frame=2)
        stock.add_new_points_or_box(state, 2, 1, points=[inside(mask)], labels=[1])
    elif kind == "box":
        tracker.add_prompt(1, box=box_of(mask), frame=2)
        stock.add_new_points_or_box(state, 2, 1, box=box_of(mask))
    else:
        tracker.add_prompt(1, mask=mask, frame=2)
        stock.add_new_mask(state, 2, 1, mask)


def while_objects_come(
    tracker: Tracker, stock, state, frames: Path, first: np.ndarray, late: np.ndarray
) -> Iterator[tuple[FrameMasks, dict[int, torch.Tensor]]]:
    """Yield what both have of each frame: two objects of two kinds, a late one, and one that is mended."""
    read = [np.asarray(Image.open(path)) for path in sorted(frames.iterdir())]
    point, fix = inside(first), inside(late)
    tracker.add_prompt(1, points=[point])
    tracker.add_prompt(2, box=box_of(first))
    stock.add_new_points_or_box(state, 0, 1, points=[point], labels=[1])
    stock.add_new_points_or_box(state, 0, 2, box=box_of(first))
    for frame, logits in propagated(stock, state, max_frame_num_to_track=1):
        yield tracker.step(read[frame]), logits
    tracker.add_prompt(3, mask=late)
    stock.add_new_mask(state, 2, 3, late)
    for frame, logits in propagated(stock, state, start_frame_idx=2, max_frame_num_to_track=0):
        yield tracker.step(read[frame]), logits
    _, ids, logits = stock.add_new_points_or_box(state, 2, 1, points=[fix, point], labels=[1, 0])
    yield tracker.correct(1, [fix, point], [1, 0]), dict(zip(ids, logits[:, 0]))
    for frame, logits in propagated(stock, state, start_frame_idx=3):
        yield tracker.step(read[frame]), logits


def test_prompts_of_every_kind_in_both_directions(case, ours, tmp_path: Path) -> None:
    """On identical frames: a click, a box and a mask on one object after the other, from the middle frame."""
    weights, record = case
    frames = write_jpegs(record, tmp_path / "frames", SQUARE)
    mask = scaled(next(iter(load_masks(record, 2).values())))
    tracker = Tracker(weights, device="cpu", overlaps="keep")
    stock, state = predictor(weights, frames)
    for kind in ("click", "box", "mask"):
        tracker.reset()
        stock.reset_state(state)
        show(tracker, stock, state, kind, mask)
        theirs = both_ways(stock, state)
        agree(list(tracker.run(frames, "both")), theirs)
        close(ours[2], theirs[2])  # no memory is in between


def test_two_kinds_a_late_object_and_a_correction_with_the_predictors_own_loader(
    case, tmp_path: Path
) -> None:
    """Frames of the clip's own size, resized as SAM 2 does; objects come and are mended while it tracks."""
    weights, record = case
    frames = write_jpegs(record, tmp_path / "frames", None)
    first, late = next(iter(load_masks(record, 0).values())), list(load_masks(record, 2).values())[-1]
    tracker = Tracker(weights, device="cpu", overlaps="keep", resize="stock")
    for masks, theirs in while_objects_come(tracker, *predictor(weights, frames), frames, first, late):
        agree([masks], {masks.frame: theirs})


@pytest.mark.parametrize("case", [(NANO, CLIPS[0]), (TINY, CLIPS[0])], indirect=True, ids=["nano", "tiny"])
def test_logits_where_memory_is_no_bfloat16(case, ours, tmp_path: Path, monkeypatch) -> None:
    """On identical frames: both directions, then two kinds, a late object and a correction."""
    weights, record = case
    keep_memory_whole(monkeypatch)
    frames = write_jpegs(record, tmp_path / "frames", SQUARE)
    first = scaled(next(iter(load_masks(record, 0).values())))
    late = scaled(list(load_masks(record, 2).values())[-1])
    tracker = Tracker(weights, device="cpu", overlaps="keep")
    stock, state = predictor(weights, frames)
    show(tracker, stock, state, "click", first)
    theirs = both_ways(stock, state)
    for masks in tracker.run(frames, "both"):
        close(ours[masks.frame], theirs[masks.frame])
    tracker.reset()
    stock.reset_state(state)
    for masks, logits in while_objects_come(tracker, stock, state, frames, first, late):
        close(ours[masks.frame], logits)
