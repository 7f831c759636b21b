"""`Tracker`: prompts, corrections and removals by hand, and whole sources in every direction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sam2vt.core.prediction.tracker import Tracker
from sam2vt.errors import ConfigError, DataError, Sam2vtError

from .conftest import SIZE

HEIGHT, WIDTH, NUM_FRAMES = 48, 80, 6


@pytest.fixture
def tracker(weights: Path) -> Tracker:
    return Tracker(weights, device="cpu", image_size=SIZE)


def video(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (NUM_FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    from PIL import Image

    where = tmp_path / "clip"
    where.mkdir()
    for index, frame in enumerate(video()):
        Image.fromarray(frame).save(where / f"{index:05d}.png")
    return where


def square(x: int, y: int, side: int = 16) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y : y + side, x : x + side] = True
    return mask


def test_objects_come_and_go_while_frames_come(tracker: Tracker) -> None:
    frames = video()
    tracker.add_prompt(4, points=[(20, 20)], name="cup")
    first = tracker.step(frames[0])
    assert [(each.object_id, each.name) for each in first.objects] == [(4, "cup")]
    assert first.objects[0].mask.shape == (HEIGHT, WIDTH)
    assert first.objects[0].mask.dtype == bool
    assert 0.99 < first.objects[0].presence <= 1
    tracker.add_prompt(7, mask=square(50, 20), frame=0)  # on the frame that was just seen
    assert list(tracker.masks.masks) == [4, 7]
    tracker.add_prompt(9, box=(5, 5, 30, 30), frame=2)
    assert list(tracker.step(frames[1]).masks) == [4, 7]
    assert list(tracker.step(frames[2]).masks) == [4, 7, 9]
    tracker.remove(7)
    assert list(tracker.step(frames[3]).masks) == [4, 9]
    tracker.reset()
    assert tracker.step(frames[0]).objects == ()


def test_a_pixel_belongs_to_one_object_unless_overlaps_are_kept(weights: Path) -> None:
    masks = {}
    for overlaps in ("resolve", "keep"):
        tracker = Tracker(weights, device="cpu", image_size=SIZE, overlaps=overlaps)
        tracker.add_prompt(1, points=[(20, 20)])
        tracker.add_prompt(2, points=[(24, 20)])
        masks[overlaps] = tracker.step(video()[0]).masks
    assert not (masks["resolve"][1] & masks["resolve"][2]).any()
    assert (masks["keep"][1] & masks["keep"][2]).any()
    assert np.array_equal(masks["keep"][1] | masks["keep"][2], masks["resolve"][1] | masks["resolve"][2])


def test_a_correction_changes_the_frame_and_what_follows(tracker: Tracker) -> None:
    frames, found = video(), {}
    for corrected in (False, True):
        tracker.reset()
        tracker.add_prompt(1, points=[(20, 20)])
        tracker.step(frames[0])
        tracker.step(frames[1])
        if corrected:
            seen = tracker.masks
            mended = tracker.correct(1, [(60, 30)], [0])
            assert mended is tracker.masks
            assert not np.array_equal(mended.masks[1], seen.masks[1])
        found[corrected] = tracker.step(frames[2])
    assert found[True].objects[0].iou != found[False].objects[0].iou


def test_what_is_always_absent_has_an_empty_mask(weights: Path) -> None:
    tracker = Tracker(weights, device="cpu", image_size=SIZE, presence=0.9999)
    torch.nn.init.constant_(
        tracker._engine.model.network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 0.0
    )
    tracker.add_prompt(1, points=[(20, 20)])
    masks = tracker.step(video()[0])
    assert masks.objects[0].presence < 0.9999
    assert not masks.masks[1].any()


def test_a_source_is_tracked_in_every_direction(tracker: Tracker, folder: Path) -> None:
    tracker.add_prompt(1, points=[(20, 20)], frame=2)
    tracker.add_prompt(2, mask=square(50, 20), frame=4)
    found = {way: list(tracker.run(folder, way)) for way in ("forward", "backward", "both")}
    ids = {way: [(each.frame, list(each.masks)) for each in masks] for way, masks in found.items()}
    assert ids["forward"] == [(2, [1]), (3, [1]), (4, [1, 2]), (5, [1, 2])]
    assert ids["backward"] == [(4, [2]), (3, [2]), (2, [1, 2]), (1, [1, 2]), (0, [1, 2])]
    assert ids["both"] == [*ids["forward"], (3, [2]), (2, [2]), (1, [1, 2]), (0, [1, 2])]
    # The frame of a prompt is the prompt's, whatever the way.
    assert np.array_equal(found["backward"][0].masks[2], found["forward"][2].masks[2])


def test_run_sees_prompts_ahead_and_step_does_not(tracker: Tracker, folder: Path) -> None:
    tracker.add_prompt(1, points=[(20, 20)])
    tracker.add_prompt(1, mask=square(50, 20), frame=4)
    ahead = list(tracker.run(folder))
    stepped = [tracker.step(frame) for frame in video()]
    assert [each.frame for each in ahead] == [each.frame for each in stepped]
    assert np.array_equal(ahead[0].masks[1], stepped[0].masks[1])
    assert np.array_equal(ahead[4].masks[1], stepped[4].masks[1])
    assert ahead[1].objects[0].iou != stepped[1].objects[0].iou


def test_the_tracker_is_imported_late_from_the_package() -> None:
    import sam2vt

    assert sam2vt.Tracker is Tracker
    with pytest.raises(AttributeError, match="trackers"):
        sam2vt.trackers  # noqa: B018


def by_step(**given):
    def act(tracker: Tracker) -> None:
        tracker.add_prompt(1, **given)
        tracker.step(video()[0])

    return act


BAD = {
    "a point outside": (by_step(points=[(100, 5)]), "outside the frame of 80x48"),
    "a box without area": (by_step(box=(5, 5, 5, 9)), "box"),
    "a mask of another size": (by_step(mask=np.ones((4, 4), bool)), "4x4"),
    "an empty mask": (by_step(mask=np.zeros((HEIGHT, WIDTH), bool)), "mask"),
    "nothing at all": (by_step(), "prompt of object 1"),
    "labels for other points": (by_step(points=[(1, 1)], labels=[1, 0]), "labels"),
    "a label that means nothing": (by_step(points=[(1, 1)], labels=[2]), "labels"),
    "not a number": (by_step(points=[(float("nan"), 1)]), "points"),
    "a frame of floats": (lambda t: t.step(video()[0].astype(float)), "uint8 RGB"),
    "a gray frame": (lambda t: t.step(video()[0, :, :, 0]), "uint8 RGB"),
    "no frame": (lambda t: t.step(None), "NoneType"),
    "another size": (lambda t: (t.step(video()[0]), t.step(video()[0, :10])), "80x48"),
    "a correction of nobody": (lambda t: t.correct(5, [(1, 1)]), "not tracked"),
    "a run without a prompt": (lambda t: list(t.run("clip.mp4")), "no prompt"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_used_is_said(tracker: Tracker, what: str) -> None:
    act, text = BAD[what]
    with pytest.raises(Sam2vtError, match=text):
        act(tracker)


def test_a_frame_that_has_passed_cannot_be_prompted(tracker: Tracker) -> None:
    for frame in video()[:3]:
        tracker.step(frame)
    with pytest.raises(DataError, match="does not go back"):
        tracker.add_prompt(1, points=[(5, 5)], frame=0)


def test_a_source_that_is_not_one_video_or_has_no_such_frame(tracker: Tracker, folder: Path) -> None:
    tracker.add_prompt(1, points=[(5, 5)], frame=NUM_FRAMES)
    with pytest.raises(DataError, match="0 to 5"):
        list(tracker.run(folder))
    (folder.parent / "other").symlink_to(folder)
    with pytest.raises(DataError, match="2 videos"):
        list(tracker.run(folder.parent))


@pytest.mark.parametrize(
    ("name", "value"),
    [("overlaps", "mix"), ("resize", "cubic"), ("presence", 2), ("min_area", -1), ("fill_holes", 1.5)],
)
def test_options_are_checked(weights: Path, name: str, value) -> None:
    with pytest.raises(ConfigError, match=name):
        Tracker(weights, device="cpu", **{name: value})
