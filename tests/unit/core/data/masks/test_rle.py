from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sam2vt.core.data.masks.rle import decode_counts, segmentation_to_mask
from sam2vt.errors import DataError


def reference(segmentation, height, width):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return coco_mask.decode(coco_mask.merge(segmentation)).astype(bool)


@pytest.mark.parametrize("seed", range(20))
def test_compressed_and_plain_counts_equal_pycocotools(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 90, 2).tolist()
    mask = rng.random((height, width)) < rng.choice([0, 0.01, 0.5, 1])
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    for counts in (rle["counts"], rle["counts"].decode(), decode_counts(rle["counts"]).tolist()):
        segmentation = {"size": [height, width], "counts": counts}
        assert np.array_equal(segmentation_to_mask(segmentation, height, width, "x"), mask)


def test_long_runs():
    mask = np.zeros((1500, 1400), dtype=np.uint8)
    mask[:, 700:] = 1
    rle = coco_mask.encode(np.asfortranarray(mask))
    assert decode_counts(rle["counts"]).tolist() == [1050000, 1050000]


@pytest.mark.parametrize("seed", range(10))
def test_polygons_equal_pycocotools(seed):
    rng = np.random.default_rng(seed)
    polygons = [rng.uniform(-5, 45, size=2 * rng.integers(3, 9)).tolist() for _ in range(rng.integers(1, 4))]
    expected = reference(coco_mask.frPyObjects(polygons, 30, 40), 30, 40)
    assert np.array_equal(segmentation_to_mask(polygons, 30, 40, "x"), expected)


def test_corners_given_as_integers():
    mask = segmentation_to_mask([[0, 0, 4, 0, 4, 4, 0, 4]], 6, 6, "x")
    assert mask[:4, :4].all()
    assert mask.sum() == 16


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, 5], r"sum to 8, .* 4 x 6 = 24"),
        ([30, -6], r"count 1 is negative \(-6\)"),
        ([12.0, 12.0], "not an integer"),
        ([True, 23], "not an integer"),
        ([], "counts are list"),
        (None, "counts are NoneType"),
        ([2**62, 2**62], "larger than any image"),
        ("", "empty"),
        ("h0 ", r"outside '0' to 'o' at position 2"),
        ("ä0", r"outside '0' to 'o' at position"),
        ("hh", "middle of a count"),
        ("o" * 12 + "0", "larger than any image"),
        ("h0h0", "sum to"),
        ("O", r"count 0 is negative \(-1\)"),
    ],
)
def test_bad_counts_name_where_and_what_is_allowed(counts, message):
    with pytest.raises(DataError, match=message) as caught:
        segmentation_to_mask({"size": [4, 6], "counts": counts}, 4, 6, "a.json: video 1, frame 2, object 3")
    assert str(caught.value).startswith("a.json: video 1, frame 2, object 3: ")
    assert "24" in str(caught.value)


@pytest.mark.parametrize("size", [[6, 4], [4], None, [4, 6, 1], "46"])
def test_size_of_another_image(size):
    with pytest.raises(DataError, match=r"x: RLE size is .*\[height, width\] = \[4, 6\]"):
        segmentation_to_mask({"size": size, "counts": [24]}, 4, 6, "x")


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        ([[0, 0, 4, 0, 4]], "polygon 0 has 5 numbers"),
        ([[0, 0, 4, 0, 4, 4], [0, 0, 4, 4]], "polygon 1 has 4 numbers"),
        ([7], "polygon 0 has int"),
        ([[0, 0, 4, 0, float("nan"), 4]], "polygon 0 has x = nan"),
        ([[0, 0, 4, 0, 4, 1e9]], "polygon 0 has y = 1000000000.0"),
        ([[0, 0, 4, 0, "4", 4]], "polygon 0 has x = 4"),
        ([], "segmentation is '\\[\\]'"),
        ("abc", "segmentation is 'abc'"),
    ],
)
def test_bad_polygons(polygons, message):
    with pytest.raises(DataError, match=f"^x: {message}"):
        segmentation_to_mask(polygons, 4, 6, "x")


def test_garbage_never_gets_through():
    rng = random.Random(0)
    for _ in range(2000):
        counts = "".join(chr(rng.randrange(40, 120)) for _ in range(rng.randrange(12)))
        try:
            mask = segmentation_to_mask({"size": [4, 6], "counts": counts}, 4, 6, "x")
        except DataError:
            continue
        assert mask.shape == (4, 6)
