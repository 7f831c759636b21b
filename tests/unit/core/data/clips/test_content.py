from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.clips.content import MAX_SHIFT, draw_motion, move, move_mask
from sam2vt.core.data.clips.drawing import draw_clip, make_clip
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.types import SampleKey, Segmentations, VideoRecord

SIDE, BACKGROUND, COLOUR = 64, (20, 40, 60), (230, 10, 10)


def spec(**options):
    return ClipSpec((SIDE, SIDE), 6, PromptGenerator(["mask"]), **options)


@pytest.fixture
def still(tmp_path):
    """A red rectangle, object 7."""
    image = np.full((48, 80, 3), BACKGROUND, np.uint8)
    image[16:32, 20:50] = COLOUR
    Image.fromarray(image).save(tmp_path / "a.png")
    polygon = [[20, 16, 50, 16, 50, 32, 20, 32]]
    return VideoRecord(
        "a",
        1,
        48,
        80,
        {0: Segmentations({7: [polygon]})},
        frame_paths=(str(tmp_path / "a.png"),),
        is_still=True,
    )


def test_motion_begins_with_the_still_and_is_smooth():
    maps = draw_motion(9, SIDE, np.random.default_rng(3))
    assert np.allclose(maps[0], [[1, 0, 0], [0, 1, 0]])
    steps = np.abs(np.diff(maps, axis=0))
    assert steps[..., 2].max() < 4 * MAX_SHIFT * SIDE / 8 * 2
    assert (steps.reshape(8, -1).max(axis=1) > 0).all()  # it never stands still


def test_masks_move_with_their_object(still):
    for index in range(20):
        clip = draw_clip([still], SampleKey(0, index), spec())
        red = clip["images"][:, 0].astype(int) - clip["images"][:, 2] > 100
        masks = clip["masks"][:, 0]
        # What is mirrored at the edge is red, too, but no object's.
        assert (masks & ~red).sum() < 0.12 * masks.sum()
        first = red[0] & masks[0]
        assert first.sum() > 0.95 * red[0].sum()
        assert clip["valid_masks"].all()
        assert clip["frame_indices"] == [0] * 6
        assert clip["prompts"][0]["frame_index"] == 0


def test_draws_repeat_and_differ(still):
    a, b, other = (draw_clip([still], SampleKey(0, index), spec())["images"] for index in (4, 4, 5))
    assert np.array_equal(a, b)
    assert not np.array_equal(a[1:], other[1:])
    assert not np.array_equal(a, draw_clip([still], SampleKey(0, 4), spec(seed=1))["images"])


def test_a_clip_of_one_frame_is_the_still(still):
    clip = make_clip([still], SampleKey(0, 0), ClipSpec((SIDE, SIDE), 1, PromptGenerator(["mask"])))
    assert clip["images"].shape == (1, 3, SIDE, SIDE)
    assert clip["masks"].any()


def test_an_object_out_of_sight_is_absent():
    away = np.array([[[1.0, 0, 0], [0, 1, 0]], [[1, 0, SIDE], [0, 1, 0]]])
    mask = np.ones((SIDE, SIDE), dtype=bool)
    moved = move_mask(mask, away)
    assert moved[0].all()
    assert not moved[1].any()
    assert move(np.zeros((SIDE, SIDE, 3), np.uint8), away).shape == (2, SIDE, SIDE, 3)
