"""Masks at another size."""

from __future__ import annotations

import numpy as np
import pytest

from sam2vt.core.data.frames.images import resize_mask


def disc(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.hypot((x - width * 0.4) / width, (y - height * 0.5) / height) < 0.3


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (128, 128), (96, 512)])
def test_keeps_the_share_of_the_image_and_the_place(size):
    mask = disc(128, 200)
    resized = resize_mask(mask, size)
    assert resized.shape == size
    assert resized.dtype == bool
    assert resized.mean() == pytest.approx(mask.mean(), rel=0.03)
    wanted = disc(*size)
    assert (resized & wanted).sum() / (resized | wanted).sum() > 0.93


def test_a_pixel_belongs_to_the_object_that_covers_half_of_it():
    mask = np.zeros((4, 4), dtype=bool)
    mask[0, :2] = True  # half of the first pixel
    mask[2, 2] = True  # a quarter of the last
    assert resize_mask(mask, (2, 2)).tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize("shape", [(480, 854), (1000, 20), (20, 1000)])
def test_no_object_vanishes(shape):
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = np.zeros(shape, dtype=bool)
        mask[rng.integers(shape[0]), rng.integers(shape[1])] = True
        assert 1 <= resize_mask(mask, (64, 64)).sum() <= 64


def test_an_empty_mask_stays_empty_and_the_same_size_is_a_copy():
    assert not resize_mask(np.zeros((30, 40), dtype=bool), (64, 64)).any()
    mask = disc(64, 64)
    same = resize_mask(mask, (64, 64))
    assert np.array_equal(same, mask)
    assert same is not mask
