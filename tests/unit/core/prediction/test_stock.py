"""Masks of real clips against those of SAM 2's own video predictor, as each is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.model import build
from sam2vt.core.model.sam2 import SAM2Model
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


def propagated(stock, state, **how) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
    for frame, ids, logits in stock.propagate_in_video(state, **how):
        yield frame, dict(zip(ids, (logits[:, 0] > 0).numpy()))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum()) / max(1.0, float((a | b).sum()))


def agree(ours: list[FrameMasks], theirs: dict[int, dict[int, np.ndarray]]) -> None:
    assert sorted(each.frame for each in ours) == sorted(theirs)
    for masks in ours:
        assert masks.masks.keys() == theirs[masks.frame].keys()
        for object_id, mask in masks.masks.items():
            assert 0.005 < mask.mean() < 0.995, "the masks are not alive enough to compare"
            assert iou(mask, theirs[masks.frame][object_id]) >= 0.995, (masks.frame, object_id)


def inside(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    middle = len(rows) // 2
    return float(columns[middle]), float(rows[middle])


def box_of(mask: np.ndarray) -> tuple[float, ...]:
    rows, columns = np.nonzero(mask)
    return tuple(map(float, (columns.min(), rows.min(), columns.max(), rows.max())))


def scaled(mask: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(mask).resize(SQUARE, Image.Resampling.NEAREST)).copy()


def test_prompts_of_every_kind_in_both_directions(case, tmp_path: Path) -> None:
    """On identical frames: a click, a box and a mask on one object after the other, from the middle frame."""
    weights, record = case
    frames = write_jpegs(record, tmp_path / "frames", SQUARE)
    mask = scaled(next(iter(load_masks(record, 2).values())))
    tracker = Tracker(weights, device="cpu", overlaps="keep")
    stock, state = predictor(weights, frames)
    point = inside(mask)
    for kind in ("click", "box", "mask"):
        tracker.reset()
        stock.reset_state(state)
        if kind == "click":
            tracker.add_prompt(1, points=[point], frame=2)
            stock.add_new_points_or_box(state, 2, 1, points=[point], labels=[1])
        elif kind == "box":
            tracker.add_prompt(1, box=box_of(mask), frame=2)
            stock.add_new_points_or_box(state, 2, 1, box=box_of(mask))
        else:
            tracker.add_prompt(1, mask=mask, frame=2)
            stock.add_new_mask(state, 2, 1, mask)
        agree(list(tracker.run(frames)), dict(propagated(stock, state)))
        ours = [each for each in tracker.run(frames, "both") if each.frame < 2]
        agree(ours, {f: m for f, m in propagated(stock, state, reverse=True) if f < 2})


def test_two_kinds_a_late_object_and_a_correction_with_the_predictors_own_loader(
    case, tmp_path: Path
) -> None:
    """Frames of the clip's own size, resized as SAM 2 does; objects come and are mended while it tracks."""
    weights, record = case
    frames = write_jpegs(record, tmp_path / "frames", None)
    masks = load_masks(record, 0)
    first, late = next(iter(masks.values())), list(load_masks(record, 2).values())[-1]
    tracker = Tracker(weights, device="cpu", overlaps="keep", resize="stock")
    stock, state = predictor(weights, frames)
    read = [np.asarray(Image.open(path)) for path in sorted(frames.iterdir())]
    point, fix = inside(first), inside(late)
    tracker.add_prompt(1, points=[point])
    tracker.add_prompt(2, box=box_of(first))
    stock.add_new_points_or_box(state, 0, 1, points=[point], labels=[1])
    stock.add_new_points_or_box(state, 0, 2, box=box_of(first))
    ours = [tracker.step(frame) for frame in read[:2]]
    agree(ours, dict(propagated(stock, state, max_frame_num_to_track=1)))
    tracker.add_prompt(3, mask=late)
    stock.add_new_mask(state, 2, 3, late)
    agree(
        [tracker.step(read[2])], dict(propagated(stock, state, start_frame_idx=2, max_frame_num_to_track=0))
    )
    mended = tracker.correct(1, [fix, point], [1, 0])
    _, ids, logits = stock.add_new_points_or_box(state, 2, 1, points=[fix, point], labels=[1, 0])
    assert iou(mended.masks[1], (logits[ids.index(1), 0] > 0).numpy()) >= 0.995
    agree([tracker.step(frame) for frame in read[3:]], dict(propagated(stock, state, start_frame_idx=3)))
