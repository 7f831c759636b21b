from __future__ import annotations

import numpy as np
import pytest

from sam2vt.core.data.clips.augment.mosaic import make_mosaic

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
