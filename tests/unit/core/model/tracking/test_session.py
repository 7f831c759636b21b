"""Frame after frame as SAM 2's video predictor tracks: prompts ahead, corrections, both directions, state.

Real clips and the tiny network are in `prediction/test_stock.py`.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sam2vt.core.model.tracking.session import FramePrediction, TrackingSession

from ..conftest import SIZE, make_clips, prompt
from ..stock import StockTracker
from .test_postprocessing import VIDEO, iou, random_model

NUM_FRAMES = 6


def clip(num_objects: int):
    images, masks = make_clips(1, NUM_FRAMES, num_objects)
    return images[0], masks[0]


def shown(session: TrackingSession, frames, *prompts, ahead: bool = True) -> None:
    """Show objects ahead of time, as the predictor takes all prompts before it tracks."""
    for frame in sorted({given["frame_index"] for given in prompts}):
        session.look(frame, frames[frame])
        session.show({given["object_index"]: given for given in prompts if given["frame_index"] == frame})
        if ahead:
            session.condition()


def forwards(session: TrackingSession, frames, start: int = 0, stop: int | None = None) -> dict:
    found = {}
    for frame in range(start, len(frames) if stop is None else stop):
        session.look(frame, frames[frame])
        found[frame] = session.track()
    return found


def backwards(session: TrackingSession, frames, start: int) -> dict:
    found = {}
    for frame in range(start, -1, -1):
        session.look(-frame, frames[frame])
        found[frame] = session.track()
    return found


def full(prediction: FramePrediction) -> torch.Tensor:
    return F.interpolate(prediction.masks[None], VIDEO, mode="bilinear", align_corners=False)[0]


def agree(ours: dict[int, FramePrediction], theirs: dict[int, torch.Tensor]) -> None:
    """`theirs` are logits [K, 1, height, width] at the video's size by frame."""
    for frame, logits in theirs.items():
        mask, other = full(ours[frame]) > 0, logits[:, 0] > 0
        assert 0.01 < float(mask.float().mean()) < 0.99, "the masks are not alive enough to compare"
        assert iou(mask, other) >= 0.995, frame


def propagated(stock: StockTracker, **how) -> dict[int, torch.Tensor]:
    return {frame: logits for frame, _, logits in stock.predictor.propagate_in_video(stock.state, **how)}


def given_to(stock: StockTracker, given, **options) -> None:
    where = (stock.state, given["frame_index"], given["object_index"])
    if given["type"] == "mask":
        stock.predictor.add_new_mask(*where, given["mask"])
        return
    points = given["point_coords"] / stock.size * torch.tensor([VIDEO[1], VIDEO[0]])
    if given["type"] == "box":
        stock.predictor.add_new_points_or_box(*where, box=points.flatten())
    else:
        stock.predictor.add_new_points_or_box(*where, points, given["point_labels"], **options)


@pytest.mark.parametrize("kind", ["point", "box", "mask"])
def test_both_directions_are_those_of_the_predictor(kind: str, tmp_path: Path) -> None:
    frames, masks = clip(1)
    model, given = random_model(), prompt(kind, masks[3, 0], 0, 3)
    stock = StockTracker(model, frames, VIDEO, tmp_path)
    given_to(stock, given)
    session = model.session(NUM_FRAMES, keeps_start=True)
    shown(session, frames, given)
    ours, theirs = forwards(session, frames), propagated(stock)
    agree(ours, theirs)
    # No memory in bfloat16 is in between: the logits agree, too.
    assert torch.allclose(full(ours[3]), theirs[3][:, 0], atol=1e-3)
    agree(
        backwards(session.back(), frames, 2),
        {f: m for f, m in propagated(stock, reverse=True).items() if f < 3},
    )


def test_two_objects_of_two_kinds_and_a_prompt_ahead_are_those_of_the_predictor(tmp_path: Path) -> None:
    frames, masks = clip(2)
    model = random_model()
    prompts = [
        prompt("point", masks[0, 0], 0),
        prompt("mask", masks[0, 1], 1),
        prompt("box", masks[4, 1], 1, 4),
    ]
    stock = StockTracker(model, frames, VIDEO, tmp_path)
    for given in prompts:
        given_to(stock, given)
    session = model.session(NUM_FRAMES)
    shown(session, frames, *prompts)
    agree(forwards(session, frames), propagated(stock))


def test_a_late_object_and_one_that_leaves_are_those_of_the_predictor(tmp_path: Path) -> None:
    """The predictor's user who adds and removes objects while it tracks."""
    frames, masks = clip(2)
    model = random_model()
    early, late = prompt("box", masks[0, 0], 0), prompt("mask", masks[2, 1], 1, 2)
    stock = StockTracker(model, frames, VIDEO, tmp_path)
    given_to(stock, early)
    theirs = propagated(stock, max_frame_num_to_track=1)
    given_to(stock, late)
    theirs |= propagated(stock, start_frame_idx=2, max_frame_num_to_track=1)
    stock.predictor.remove_object(stock.state, 0)
    theirs |= propagated(stock, start_frame_idx=4)
    session = model.session(NUM_FRAMES)
    shown(session, frames, early, ahead=False)
    ours = forwards(session, frames, 0, 2)
    shown(session, frames, late, ahead=False)
    ours[2] = session.track()
    ours |= forwards(session, frames, 3, 4)
    session.remove(0)
    ours |= forwards(session, frames, 4)
    assert [each.object_indices for each in ours.values()] == [[0], [0], [0, 1], [0, 1], [1], [1]]
    agree(ours, theirs)


def test_corrections_are_those_of_the_predictor(tmp_path: Path) -> None:
    """Of a tracked frame, with its logits and memory; of one that was shown and is mended before tracking."""
    frames, masks = clip(1)
    model = random_model()
    first, more = prompt("point", masks[0, 0], 0), prompt("two points", masks[0, 0], 0)
    fix, again = prompt("two points", masks[3, 0], 0, 3), prompt("point", masks[3, 0], 0, 3)
    stock = StockTracker(model, frames, VIDEO, tmp_path)
    given_to(stock, first)
    given_to(stock, more)
    theirs = propagated(stock, max_frame_num_to_track=3)
    given_to(stock, fix)
    given_to(stock, again, clear_old_points=False)
    theirs |= propagated(stock, start_frame_idx=4)  # from frame 3 on it would track that again
    session = model.session(NUM_FRAMES)
    shown(session, frames, first, ahead=False)
    ours = {0: session.track()}
    ours[0] = session.mend(0, more)
    ours |= forwards(session, frames, 1, 4)
    tracked = ours[3]
    session.mend(0, fix)
    both = {
        **again,
        **{name: torch.cat([fix[name], again[name]]) for name in ("point_coords", "point_labels")},
    }
    ours[3] = session.mend(0, both)
    assert not torch.allclose(ours[3].masks, tracked.masks, atol=1e-3)
    ours |= forwards(session, frames, 4)
    theirs[3] = stock.state["output_dict_per_obj"][0]["non_cond_frame_outputs"][3]["pred_masks"]
    theirs[3] = F.interpolate(theirs[3], VIDEO, mode="bilinear", align_corners=False)
    agree(ours, theirs)


def test_a_session_continues_from_its_state() -> None:
    frames, masks = clip(2)
    model = random_model()
    prompts = [
        prompt("point", masks[0, 0], 0),
        prompt("mask", masks[1, 1], 1, 1),
        prompt("box", masks[4, 0], 0, 4),
    ]
    session = model.session(NUM_FRAMES, keeps_start=True)
    shown(session, frames, *prompts)
    forwards(session, frames, 0, 3)
    saved = io.BytesIO()
    torch.save(session.state(), saved)
    saved.seek(0)
    other = model.session(NUM_FRAMES, keeps_start=True)
    other.restore(torch.load(saved, weights_only=True))
    for here, there in zip(forwards(session, frames, 3).values(), forwards(other, frames, 3).values()):
        assert here.object_indices == there.object_indices == [0, 1]
        assert torch.equal(here.masks, there.masks)
    back, other_back = session.back(), other.back()
    for here, there in zip(backwards(back, frames, 0).values(), backwards(other_back, frames, 0).values()):
        assert torch.equal(here.masks, there.masks)


def test_memory_does_not_grow_with_frames_or_with_prompts_that_are_not_kept() -> None:
    frames, masks = clip(1)
    session = random_model().session()
    sizes = []
    for frame in range(60):
        session.look(frame, frames[frame % 2])
        if frame % 3 == 0:
            session.show({0: prompt("mask", masks[frame % 2, 0], 0)}, keep=4)
        session.track()
        sizes.append(len(torch.cat([torch.zeros(0), *_tensors(session.state())])))
    assert max(sizes[40:]) == max(sizes[20:40])
    assert session.slots == [0]


def _tensors(value) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value.float().flatten()]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
    return [each for item in items for each in _tensors(item)]


def test_stock_size_of_masks() -> None:
    frames, masks = clip(1)
    session = random_model().session()
    session.look(0, frames[0])
    assert session.track().masks.shape == (0, SIZE // 4, SIZE // 4)
    session.show({3: prompt("mask", masks[0, 0], 3)})
    assert session.track().object_indices == [3]
