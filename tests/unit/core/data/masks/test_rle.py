from __future__ import annotations

import json
import random
import warnings

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from sam2vt.core.data.frames.images import MAX_PIXELS
from sam2vt.core.data.masks.rle import (
    check_rle,
    decode_counts,
    encode_mask,
    json_rle,
    paint_runs,
    run_lengths,
    segmentation_to_mask,
)
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
        ("ä0", r"outside '0' to 'o' at position 0"),
        ("0/", r"outside '0' to 'o' at position 1"),
        ("0p", r"outside '0' to 'o' at position 1"),
        ("o/p", r"outside '0' to 'o' at position 1"),
        ("0/p", r"outside '0' to 'o' at position 1"),
        ("0p/", r"outside '0' to 'o' at position 1"),
        ("hh", "middle of a count"),
        ("o" * 12 + "0", "larger than any image"),
        ("o" * 7 + "?", "larger than any image"),
        ([2**40], "larger than any image"),
        ([24, 2**40], "larger than any image"),
        ([2**40 - 1], f"sum to {2**40 - 1}, "),
        ([24, -(2**40)], "larger than any image"),
        ([24, 1 - 2**40], rf"count 1 is negative \({1 - 2**40}\)"),
        ([0, 25, -1], r"count 2 is negative \(-1\)"),
        ([24, -1, -2], r"count 1 is negative \(-1\)"),
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
        ([[0, 0, 4, 0, 4, 4, 1]], "polygon 0 has 7 numbers"),
        ([[0, 0, 4, 0, 4, True]], "polygon 0 has y = True"),
        # Up to the image's size of 6 x 4 outside of it.
        ([[-6.1, 0, 4, 0, 4, 4]], "polygon 0 has x = -6.1"),
        ([[12.1, 0, 4, 0, 4, 4]], "polygon 0 has x = 12.1"),
        ([[0, -4.1, 4, 0, 4, 4]], "polygon 0 has y = -4.1"),
        ([[0, 8.1, 4, 0, 4, 4]], "polygon 0 has y = 8.1"),
        ([[0, 0, 4, 0, 4, 4], [0, 0, 4, 4]], "polygon 1 has 4 numbers"),
        ([7], "polygon 0 has int"),
        ([[0, 0, 4, 0, float("nan"), 4]], "polygon 0 has x = nan"),
        ([[0, 0, 4, 0, 4, 1e9]], "polygon 0 has y = 1000000000.0"),
        ([[0, 0, 4, 0, "4", 4]], "polygon 0 has x = 4"),
        ([], "segmentation is '\\[\\]'"),
        ("abc", "segmentation is 'abc'"),
        ({}, "RLE size is None"),
    ],
)
def test_bad_polygons(polygons, message):
    with pytest.raises(DataError, match=f"^x: {message}"):
        segmentation_to_mask(polygons, 4, 6, "x")


def test_polygons_may_stick_out_by_the_images_size():
    assert segmentation_to_mask([[-6, -4, 12, -4, 12, 8, -6, 8]], 4, 6, "x").all()


def test_shares_of_the_frame_are_refused():
    with pytest.raises(DataError, match="^x: the polygons are between 0 and 1"):
        segmentation_to_mask([[0, 0, 1, 0, 1, 1], [0, 0, 0.5, 0, 0.5, 1]], 4, 6, "x")
    for corners in ([0, 0, 1, 0, 1, 1], [0, 0, 1.5, 0, 1.5, 1], [-0.5, 0, 0.5, 0, 0.5, 1]):
        assert segmentation_to_mask([corners], 4, 6, "x").shape == (4, 6)


def test_counts_by_hand():
    """5 bits per character and the sign in the last; from the fourth on differences to two before."""
    assert decode_counts("oooooo?").tolist() == [2**34 - 1]
    assert decode_counts("5000").tolist() == [5, 0, 0, 0]
    assert decode_counts("5312").tolist() == [5, 3, 1, 3 + 2]
    assert decode_counts("53124O").tolist() == [5, 3, 1, 5, 1 + 4, 5 - 1]
    assert decode_counts(b"Pn0").tolist() == [0b00000_11110_00000]
    mask = segmentation_to_mask({"size": (2, 3), "counts": (1, 2, 2, 1), "rows": None}, 2, 3, "x")
    assert mask.tolist() == [[False, True, False], [True, False, True]]  # column by column


def test_encoding_by_hand():
    mask = np.array([[0, 1, 0], [1, 0, 1]], dtype=bool)
    encoded = encode_mask(mask)
    assert list(encoded["size"]) == [2, 3]
    assert decode_counts(encoded["counts"]).tolist() == [1, 2, 2, 1]


def test_an_rle_in_json_has_text_for_counts():
    encoded = json_rle(encode_mask(np.array([[0, 1, 0], [1, 0, 1]], dtype=bool)))
    assert json.loads(json.dumps(encoded)) == {"size": [2, 3], "counts": "122O"}
    for counts in ("122O", b"122O"):
        assert json_rle({"size": (2, 3), "counts": counts, "rows": 7}) == encoded


def test_run_lengths_are_read_by_column_and_painted():
    for counts in ("122O", b"122O", [1, 2, 2, 1], (1, 2, 2, 1)):
        runs = run_lengths({"size": [2, 3], "counts": counts}, 2, 3, "x")
        assert runs.dtype == np.int64
        assert runs.tolist() == [1, 2, 2, 1]
    mask = paint_runs(runs, 2, 3)
    assert mask.dtype == bool
    assert mask.tolist() == [[False, True, False], [True, False, True]]
    # A run may be empty, as the first one where the first pixel is the object's.
    assert paint_runs(np.array([0, 1, 0, 2, 3]), 2, 3).tolist() == [[True, True, False], [True, False, False]]
    assert paint_runs(np.array([6]), 2, 3).sum() == 0


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ({"size": [3, 2], "counts": [6]}, r"RLE size is \[3, 2\], the image is \[height, width\] = \[2, 3\]"),
        ({"counts": [6]}, "RLE size is None"),
        ({"size": [2, 3]}, "counts are NoneType"),
        ({"size": [2, 3], "counts": [5]}, "counts sum to 5, not to height x width = 2 x 3 = 6"),
    ],
)
def test_run_lengths_of_another_image(rle, message):
    with pytest.raises(DataError, match=f"^video.json: .*{message}"):
        run_lengths(rle, 2, 3, "video.json")


@pytest.mark.parametrize(
    ("size", "counts", "pixels"),
    [
        ([2, 3], "122O", 3),
        ((2, 3), b"122O", 3),
        ([2, 3], [1, 2, 2, 1], 3),
        ([3, 2], [0, 4, 1, 1], 5),
        ([1, 1], [0, 1], 1),
        ([1, 6], [6], 0),
        # As large as an image may be: its pixels are counted, not painted.
        ([MAX_PIXELS // 2, 2], [0, MAX_PIXELS], MAX_PIXELS),
    ],
)
def test_an_rle_is_checked_by_its_own_size(size, counts, pixels):
    found = check_rle({"size": size, "counts": counts}, "x")
    assert type(found) is int
    assert found == pixels


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        (None, "is 'None'; allowed is an RLE: counts, and size"),
        ([[0, 0, 4, 0, 4, 4]], r"is '\[\[0, 0, 4, 0, 4, 4\]\]'; allowed is an RLE"),
        ({"counts": [6]}, "allowed is an RLE"),
        ({"size": "23", "counts": [6]}, "allowed is an RLE"),
        ({"size": [6], "counts": [6]}, "allowed is an RLE"),
        ({"size": [], "counts": [6]}, "allowed is an RLE"),
        ({"size": [2, 3, 1], "counts": [6]}, "allowed is an RLE"),
        ({"size": [2.0, 3], "counts": [6]}, "allowed is an RLE"),
        ({"size": [True, 6], "counts": [6]}, "allowed is an RLE"),
        ({"size": [0, 6], "counts": [0]}, "allowed is an RLE"),
        ({"size": [6, 0], "counts": [0]}, "allowed is an RLE"),
        ({"size": [-2, -3], "counts": [6]}, "allowed is an RLE"),
        ({"size": [MAX_PIXELS + 1, 1], "counts": [MAX_PIXELS + 1]}, f"of at most {MAX_PIXELS} pixels"),
        ({"size": [2, MAX_PIXELS], "counts": [2 * MAX_PIXELS]}, f"of at most {MAX_PIXELS} pixels"),
        ({"size": [2, 3]}, "RLE counts cannot be read: counts are NoneType"),
        ({"size": [2, 3], "counts": [7, -1]}, r"RLE count 1 is negative \(-1\)"),
        ({"size": [2, 3], "counts": [5]}, "RLE counts sum to 5, not to height x width = 2 x 3 = 6"),
    ],
)
def test_an_rle_that_is_refused(rle, message):
    with pytest.raises(DataError, match=f"^file, line 3: {message}|^file, line 3: is .*{message}"):
        check_rle(rle, "file, line 3")


@pytest.mark.parametrize("box", [[2, 1, 3, 2], (4, 2, 3, 2), [0, 0, 3, 2]])
def test_run_lengths_within_a_box(box):
    """Row by row: the last of the first row and the first two of the second."""
    left, top, _, _ = box
    mask = np.zeros((4, 7), dtype=bool)
    mask[top, left + 2] = mask[top + 1, left] = mask[top + 1, left + 1] = True
    found = segmentation_to_mask({"box": box, "rows": [2, 3, 1]}, 4, 7, "x")
    assert found.dtype == bool
    assert np.array_equal(found, mask)
    mask[top + 1, left + 1], mask[top + 1, left + 2] = False, True
    found = segmentation_to_mask({"box": box, "rows": [2, 2, 1, 1]}, 4, 7, "x")
    assert np.array_equal(found, mask)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (None, "the box is None"),
        ("2132", "the box is 2132"),
        ([2, 1, 3], r"the box is \[2, 1, 3\]"),
        ([2, 1, 3, 2, 0], r"the box is \[2, 1, 3, 2, 0\]"),
        ([-1, 1, 3, 2], r"the box is \[-1, 1, 3, 2\]"),
        ([2, 1, 3.0, 2], r"the box is \[2, 1, 3.0, 2\]"),
        ([2, True, 3, 2], r"the box is \[2, True, 3, 2\]"),
        ([2, 1, 0, 2], "the mask's box, 0x2 at left 2, top 1, is not within the image of 7x4"),
        ([2, 1, 3, 0], "the mask's box, 3x0 at"),
        ([5, 1, 3, 2], "the mask's box, 3x2 at left 5"),
        ([2, 3, 3, 2], "the mask's box, 3x2 at left 2, top 3"),
        ([2, 1, 3, 3], r"RLE counts sum to 6, not to the box's height x width = 3 x 3 = 9"),
    ],
)
def test_bad_boxes(box, message):
    with pytest.raises(DataError, match=f"^x: {message}"):
        segmentation_to_mask({"box": box, "rows": [2, 3, 1]}, 4, 7, "x")


def test_garbage_never_gets_through():
    rng = random.Random(0)
    for _ in range(2000):
        counts = "".join(chr(rng.randrange(40, 120)) for _ in range(rng.randrange(12)))
        try:
            mask = segmentation_to_mask({"size": [4, 6], "counts": counts}, 4, 6, "x")
        except DataError:
            continue
        assert mask.shape == (4, 6)
