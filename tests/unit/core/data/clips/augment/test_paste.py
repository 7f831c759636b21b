from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from sam2vt.core.data.clips.augment.paste import MAX_AREA, paste_object

from .conftest import SIDE, painted


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
