from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from sam2vt.core.data.clips.augment.geometry import MAX_AREA, make_mosaic, paste_object

from .conftest import SIDE, painted


def mosaic(paint, seed=0, max_objects=None, own=None):
    others = [paint(((60, 60, 20),), step=n) for n in range(3)]
    others[0].valid_masks[1:] = False
    return make_mosaic(own or paint(), others, max_objects, np.random.default_rng(seed)), others


@pytest.mark.parametrize("seed", range(6))
def test_each_clip_has_a_cell_and_masks_stay_on_their_objects(paint, seed):
    made, _ = mosaic(paint, seed)
    assert made.images.shape == paint().images.shape
    assert made.masks.shape[1] == 5
    assert made.object_ids == [1, 2, 3, 4, 5]
    shown = painted(made.images, 0)
    masks = made.masks[:, [0, 2, 3, 4]].any(axis=1)
    assert (shown & masks).sum() / (shown | masks).sum() > 0.95
    half = SIDE // 2
    for t in range(len(made.images)):
        cells = [made.masks[t, :, y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
        assert sorted(int(cell.any(axis=(1, 2)).sum()) for cell in cells) == [1, 1, 1, 2]


def test_every_cell_can_be_the_clip_s_own(paint):
    corners = set()
    for seed in range(20):
        made, _ = mosaic(paint, seed)
        rows, columns = np.nonzero(made.masks[0, 0])
        corners.add((rows.mean() > SIDE / 2, columns.mean() > SIDE / 2))
    assert len(corners) == 4


def test_other_clips_objects_fill_free_slots_alone(paint):
    for most, expected in ((2, 2), (1, 2), (3, 3), (9, 5)):
        made, _ = mosaic(paint, 0, most)
        assert made.masks.shape[1] == len(made.object_ids) == expected
    chosen = {mosaic(paint, seed, 3)[0].valid_masks[1:, 2].any() for seed in range(12)}
    assert chosen == {True, False}  # sometimes that of the first other clip


def test_objects_keep_the_frames_they_are_valid_on(paint):
    made, _ = mosaic(paint)
    assert made.valid_masks[:, :2].all()
    assert sorted(made.valid_masks[:, 2:].sum(axis=0).tolist()) == [1, 4, 4]


def test_an_object_too_small_for_a_cell_is_kept_or_left_out(paint):
    tiny = paint(((60, 60, 2),), step=0)
    assert np.count_nonzero(tiny.masks[0]) < 16
    made, _ = mosaic(paint, own=tiny)
    assert made is tiny
    rng = np.random.default_rng(0)
    made = make_mosaic(paint(), [tiny] * 3, None, rng)
    assert made.object_ids == [1, 2]
    assert not np.array_equal(made.images, paint().images)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_it_hides_what_is_behind_it_and_is_no_object(paint):
    content = paint(((50, 64, 30),), step=0)
    blue = paint(((1, 1, 0), (60, 60, 12)), step=4)
    other = blue._replace(masks=blue.masks[:, 1:], valid_masks=blue.valid_masks[:, 1:], object_ids=[9])
    hidden = 0
    for seed in range(20):
        pasted = paste_object(content, other, rng(seed))
        over = painted(pasted.images, 1)
        assert over.any()
        assert pasted.object_ids == content.object_ids
        assert pasted.masks.shape == content.masks.shape
        assert pasted.valid_masks.all()
        assert not (pasted.masks[:, 0] & over).any()
        around = np.stack([cv2.dilate(frame.astype(np.uint8), np.ones((3, 3))) for frame in over]) > 0
        assert not ((pasted.images != content.images).any(axis=1) & ~around).any()
        assert not ((pasted.masks != content.masks).any(axis=1) & ~around).any()
        hidden += bool((content.masks[:, 0] & over).any())
        centres = [np.nonzero(frame)[1].mean() for frame in over if frame.sum() > 300]
        assert all(after > before for before, after in pairwise(centres))  # it moves by itself
    assert hidden > 2


def test_a_large_object_is_pasted_smaller(paint):
    other = paint(((64, 64, 60),), step=0)
    base = paint(((20, 20, 9),), step=0)
    base.images[:] = 0
    for seed in range(8):
        pasted = paste_object(base, other, rng(seed))
        red = (pasted.images[:, 0] > 200).sum(axis=(1, 2))
        assert red.max() <= 1.05 * MAX_AREA * SIDE**2


def test_a_prompted_object_is_never_hidden(paint):
    """A small object below a large distractor; where all places hide it, nothing is pasted."""
    other = paint(((64, 64, 25),), step=0)
    content = paint(((64, 64, 3),), step=0)
    for seed in range(60):
        pasted = paste_object(content, other, rng(seed))
        assert pasted.masks[0, 0].sum() >= min(16, content.masks[0, 0].sum())


def test_frames_without_a_mask_show_the_nearest_cut_out(paint):
    other = paint(((50, 60, 15),), step=6, length=4)
    other.valid_masks[:] = [[False], [True], [False], [False]]
    other.masks[[0, 2, 3]] = False
    base = paint(((10, 10, 4),), step=0)
    base.images[:] = 0
    shown = paste_object(base, other, rng(1)).images
    assert (shown[0] > 0).any()
    assert all(np.array_equal(frame, shown[0]) for frame in shown)


def test_an_object_that_is_never_visible_is_not_pasted(paint):
    other = paint(((50, 60, 15),))
    other.masks[:] = False
    content = paint()
    assert paste_object(content, other, rng(0)) is content
    other.valid_masks[:] = False
    assert paste_object(content, other, rng(0)) is content
