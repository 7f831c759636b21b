"""Masks stay on their objects, whatever the motion."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sam2vt.config import AugmentConfig
from sam2vt.core.data.clips.augment import geometry
from sam2vt.core.data.clips.augment.geometry import MAX_TRIES, draw_motion, flip, move, warp_masks

from .conftest import SIDE, painted


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


MOTIONS = {
    "flip": {"flip_probability": 1.0},
    "degrees": {"degrees": 40.0},
    "translate": {"translate": 0.2},
    "scale": {"scale": (0.6, 1.6)},
    "shear": {"shear": 25.0},
    "crop_area": {"crop_area": (0.4, 0.9)},
    "crop_ratio": {"crop_ratio": (0.6, 1.6)},
    "scale_jitter": {"scale_jitter": (0.6, 1.6)},
    "sam2": {"flip_probability": 0.5, "degrees": 25.0, "shear": 20.0},
    "all": {
        "flip_probability": 0.5,
        "degrees": 30.0,
        "translate": 0.1,
        "scale": (0.8, 1.3),
        "shear": 15.0,
        "crop_area": (0.5, 1.0),
        "crop_ratio": (0.75, 1.33),
        "scale_jitter": (0.8, 1.25),
    },
}


@pytest.mark.parametrize("settings", MOTIONS.values(), ids=MOTIONS)
def test_masks_stay_on_their_objects(paint, settings):
    content, moved_at_all = paint(), 0
    for seed in range(12):
        moved = move(content, AugmentConfig(**settings), 1.5, rng(seed))
        moved_at_all += not np.array_equal(moved.images, content.images)
        for n in range(2):
            shown, masks = painted(moved.images, n), moved.masks[:, n]
            for t in range(len(masks)):
                union = (shown[t] | masks[t]).sum()
                if union > 100:
                    assert (shown[t] & masks[t]).sum() / union > 0.95, (seed, n, t)
        assert moved.images.shape == content.images.shape
        assert moved.images.dtype == np.uint8
        assert moved.masks.dtype == bool
    assert moved_at_all > 3


def test_a_flip_is_exact(paint):
    content = paint()
    flipped = flip(content)
    assert np.array_equal(flipped.images, content.images[..., ::-1])
    assert np.array_equal(flipped.masks, content.masks[..., ::-1])
    turned = move(content, AugmentConfig(flip_probability=1.0), 1.0, rng(0))
    assert np.array_equal(turned.images, flipped.images)


def test_all_frames_of_a_clip_move_alike(paint):
    still = paint(step=0)
    for seed in range(5):
        moved = move(still, AugmentConfig(**MOTIONS["all"]), 1.2, rng(seed))
        assert all(np.array_equal(frame, moved.images[0]) for frame in moved.images)
        assert all(np.array_equal(masks, moved.masks[0]) for masks in moved.masks)


def test_a_scene_turns_as_it_was_before_it_was_squeezed():
    """A disc of a video twice as wide as high is an ellipse in the square, however it is turned."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    ellipse = (x * 2) ** 2 + y**2 < 40**2
    for seed in range(6):
        motion = draw_motion(AugmentConfig(degrees=90.0), SIDE, 2.0, rng(seed))
        turned = warp_masks(ellipse[None], motion)[0]
        assert (turned & ellipse).sum() / (turned | ellipse).sum() > 0.95
    squeezed = warp_masks(ellipse[None], draw_motion(AugmentConfig(degrees=90.0), SIDE, 1.0, rng(0)))[0]
    assert (squeezed & ellipse).sum() / (squeezed | ellipse).sum() < 0.9


def test_ranges_are_kept():
    for seed in range(50):
        motion = draw_motion(AugmentConfig(degrees=20.0, scale=(0.5, 0.8)), SIDE, 1.0, rng(seed))
        assert abs(math.degrees(math.atan2(motion[1, 0], motion[0, 0]))) <= 20
        assert 0.5 <= math.sqrt(np.linalg.det(motion)) <= 0.8
        assert motion @ [SIDE / 2, SIDE / 2, 1] == pytest.approx([SIDE / 2, SIDE / 2, 1])
        cut = draw_motion(AugmentConfig(crop_area=(0.3, 0.6)), SIDE, 1.0, rng(seed))
        assert 1 / 0.6 <= np.linalg.det(cut) <= 1 / 0.3
        corners = np.linalg.inv(cut) @ [[0, SIDE], [0, SIDE], [1, 1]]
        assert corners.min() >= -1e-9
        assert corners.max() <= SIDE + 1e-9


def test_a_motion_that_loses_an_object_is_drawn_again(paint, monkeypatch):
    """An object in a corner: many cuts lose it, and never one is taken."""
    content, tries = paint(((8, 8, 4),), step=0), []
    draw = geometry.draw_motion
    monkeypatch.setattr(geometry, "draw_motion", lambda *given: tries.append(0) or draw(*given))
    num_moved = 0
    for seed in range(30):
        tries.clear()
        moved = move(content, AugmentConfig(crop_area=(0.5, 0.7)), 1.0, rng(seed))
        assert moved.masks[0, 0].sum() >= 16
        assert 1 <= len(tries) <= MAX_TRIES
        changed = not np.array_equal(moved.images, content.images)
        assert changed or len(tries) == MAX_TRIES
        num_moved += changed
    assert 10 < num_moved < 30


def test_a_clip_that_every_motion_spoils_stays_as_it_is(paint, monkeypatch):
    content, tries = paint(((8, 8, 4),), step=0), []
    draw = geometry.draw_motion
    monkeypatch.setattr(geometry, "draw_motion", lambda *given: tries.append(0) or draw(*given))
    kept = move(content, AugmentConfig(scale=(8.0, 8.0), flip_probability=1.0), 1.0, rng(0))
    assert len(tries) == MAX_TRIES
    assert np.array_equal(kept.images, flip(content).images)
    assert np.array_equal(kept.masks, flip(content).masks)


def test_a_tiny_object_must_not_become_smaller(paint):
    content = paint(((64, 64, 1),), step=0)
    area = content.masks[0, 0].sum()
    assert area < 16
    for seed in range(10):
        assert move(content, AugmentConfig(scale=(0.5, 1.5)), 1.0, rng(seed)).masks[0, 0].sum() >= area


def test_an_object_moved_out_of_the_frame_is_known_to_be_absent(paint):
    content = paint(((70, 60, 10),), step=12, length=5)
    assert content.masks.any(axis=(2, 3)).all()
    left = 0
    for seed in range(40):
        moved = move(content, AugmentConfig(translate=0.4), 1.0, rng(seed))
        assert moved.valid_masks.all()
        assert moved.masks[0].any()
        left += not moved.masks[-1].any()
    assert left > 3
