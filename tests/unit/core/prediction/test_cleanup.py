"""Holes and islands by their areas, against a flood fill written out here."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from sam2vt.core.prediction.cleanup import clean


def drawn(*rows: str) -> np.ndarray:
    return np.array([[each == "#" for each in row] for row in rows])


# before, fill_holes, min_area, after
CASES = {
    "nothing is asked for": (("#.#", "...", "#.#"), 0, 0, ("#.#", "...", "#.#")),
    "a hole of the area": ((".....", ".###.", ".#.#.", ".###."), 1, 0, (".....", ".###.", ".###.", ".###.")),
    "a hole that is larger": (("####", "#..#", "####"), 1, 0, ("####", "#..#", "####")),
    "background at the border is no hole": (("#.#", "###"), 9, 0, ("#.#", "###")),
    # A diagonal edge encloses: what is inside does not leak out between its pixels.
    "a hole within corners": ((".#.", "#.#", ".#."), 1, 0, (".#.", "###", ".#.")),
    "holes are counted apart": (("#####", "#.#.#", "#####"), 1, 0, ("#####",) * 3),
    "a hole with a speck in it": (("#####", "#...#", "#.#.#", "#...#", "#####"), 8, 0, ("#####",) * 5),
    "an island of the area stays": (("##.##", "#...#"), 0, 3, ("##.##", "#...#")),
    "an island that is smaller": (("###.#", "###.."), 0, 2, ("###..", "###..")),
    "corners connect": (("#....", ".#...", "..#.#"), 0, 3, ("#....", ".#...", "..#..")),
    "scattered, but enough in all": (("#.#.#", "#...."), 0, 4, ("#....", "#....")),
    "all of it is noise": (("#.#.#", "#...."), 0, 5, (".....", ".....")),
    "a filled hole counts for its island": (("###...", "#.#..#", "###..."), 1, 9, ("###...",) * 3),
    "nothing is there": (("...", "..."), 5, 5, ("...", "...")),
    "all of it is object": (("###", "###"), 5, 5, ("###", "###")),
}


@pytest.mark.parametrize("case", CASES)
def test_cases(case: str) -> None:
    before, fill_holes, min_area, after = CASES[case]
    mask = drawn(*before)
    found = clean(mask, fill_holes, min_area)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, drawn(*after))
    np.testing.assert_array_equal(mask, drawn(*before))  # it is not changed


@pytest.mark.parametrize("seed", range(5))
def test_random_masks_as_another_library_cleans_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((40, 57)) < 0.55
    most, least = (int(each) for each in rng.integers(1, 9, 2))
    background, count = ndimage.label(~np.pad(mask, 1))  # by sides
    expected = mask.copy()
    for label in range(1, count + 1):
        hole = (background == label)[1:-1, 1:-1]
        edge = hole[0].any() or hole[-1].any() or hole[:, 0].any() or hole[:, -1].any()
        if not edge and hole.sum() <= most:
            expected |= hole
    islands, count = ndimage.label(expected, np.ones((3, 3)))
    sizes = ndimage.sum(expected, islands, range(1, count + 1))
    for label, size in enumerate(sizes, start=1):
        if size < least and size < sizes.max():
            expected[islands == label] = False
    np.testing.assert_array_equal(clean(mask, most, least), expected)
    sliced = np.asfortranarray(mask)[::1]
    np.testing.assert_array_equal(clean(sliced, most, least), expected)
