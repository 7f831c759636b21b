"""Decode COCO segmentations to masks, and check every count before anything is written.

pycocotools trusts its input: counts that do not fit the size make it write past its buffers. Therefore run
lengths are decoded here; pycocotools only draws polygons, after they are checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from sam2vt.core.data.frames.images import MAX_PIXELS
from sam2vt.core.data.json_files import shown
from sam2vt.errors import DataError

ROWS = "rows"  # in a segmentation: run lengths row by row within its "box", as CVAT's reader makes it
_MAX_CHARS_A_COUNT = 7  # 5 bits a character: counts beyond 2^34 have no image


def decode_counts(text: str | bytes) -> np.ndarray:
    """Return the run lengths, int64 [R], of COCO's compressed `counts` string.

    A count is written in characters of 5 bits, lowest first, with bit 6 set on all but the last. From the
    fourth count on, it is the difference to the count two before. Raises ValueError for anything else.
    """
    # utf-8 writes what is not ASCII in bytes that are refused below.
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    codes = np.frombuffer(raw, dtype=np.uint8).astype(np.int64) - 48
    if codes.size == 0:
        raise ValueError("the counts string is empty")
    if codes.min() < 0 or codes.max() > 63:
        bad = int(np.flatnonzero((codes < 0) | (codes > 63))[0])
        raise ValueError(f"the counts string has a character outside '0' to 'o' at position {bad}")
    last = (codes & 32) == 0
    if not last[-1]:
        raise ValueError("the counts string ends in the middle of a count")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MAX_CHARS_A_COUNT:
        raise ValueError("the counts string has a count that is larger than any image")
    place = np.arange(codes.size) - np.repeat(starts, lengths)
    counts = np.add.reduceat((codes & 31) << (5 * place), starts)
    # The sign bit of the last character extends to all higher bits.
    counts -= np.where(codes[ends] & 16, np.int64(1) << (5 * lengths), 0)
    # Odd and even counts are two chains of differences; the first has no count before it to differ from.
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts


def _as_counts(value: Any) -> np.ndarray:
    if isinstance(value, (str, bytes)):
        return decode_counts(value)
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"counts are {type(value).__name__} {str(value)[:40]}")
    if any(isinstance(count, bool) or not isinstance(count, int) for count in value):
        raise ValueError("counts hold something that is not an integer")
    # Beyond int64 NumPy would make floats or objects of them.
    if max(value) >= 2**40 or min(value) <= -(2**40):
        raise ValueError("counts hold a number larger than any image")
    return np.array(value, dtype=np.int64)


def run_lengths(rle: dict[str, Any], height: int, width: int, where: str) -> np.ndarray:
    """Return the run lengths, int64 [R], of 0 and 1 in turn by column, of an RLE dict with size and counts.

    They cover height x width pixels. Raises DataError, which begins with `where`, for anything else.
    """
    size = rle.get("size")
    if not isinstance(size, (list, tuple)) or list(size) != [height, width]:
        raise DataError(
            f"{where}: RLE size is {str(size)[:40]}, the image is [height, width] = [{height}, {width}]; "
            "write masks at the size of their frames"
        )
    return _checked_counts(rle.get("counts"), height, width, "height x width", where)


def _box_to_mask(rle: dict[str, Any], height: int, width: int, where: str) -> np.ndarray:
    """Paint CVAT's run lengths: row by row within a box (left, top, width, height)."""
    box = rle.get("box")
    if (
        not isinstance(box, (list, tuple))
        or len(box) != 4
        or any(type(each) is not int or each < 0 for each in box)
    ):
        raise DataError(
            f"{where}: the box is {str(box)[:40]}; allowed are four integers >= 0: left, top, width, height"
        )
    left, top, box_width, box_height = box
    if not box_width or not box_height or left + box_width > width or top + box_height > height:
        raise DataError(
            f"{where}: the mask's box, {box_width}x{box_height} at left {left}, top {top}, is not "
            f"within the image of {width}x{height}; masks are drawn on the video's own frames: use these"
        )
    counts = _checked_counts(rle[ROWS], box_height, box_width, "the box's height x width", where)
    mask = np.zeros((height, width), dtype=bool)
    runs = np.arange(counts.size) % 2 == 1
    mask[top : top + box_height, left : left + box_width] = np.repeat(runs, counts).reshape(box_height, -1)
    return mask


def _checked_counts(value: Any, height: int, width: int, name: str, where: str) -> np.ndarray:
    """Return run lengths, int64 [R], that cover height x width pixels, which messages call `name`."""
    pixels = f"{name} = {height} x {width} = {height * width}"
    try:
        counts = _as_counts(value)
    except ValueError as error:
        raise DataError(
            f"{where}: RLE counts cannot be read: {error}; allowed are COCO's compressed string or a list of "
            f"integers >= 0 that sum to {pixels}"
        ) from None
    if (counts < 0).any():
        place = int(np.flatnonzero(counts < 0)[0])
        raise DataError(
            f"{where}: RLE count {place} is negative ({int(counts[place])}); counts must be >= 0 and "
            f"sum to {pixels}"
        )
    if int(counts.sum()) != height * width:
        raise DataError(
            f"{where}: RLE counts sum to {int(counts.sum())}, not to {pixels}; export the annotation again"
        )
    return counts


def check_rle(rle: Any, where: str) -> int:
    """Return the number of pixels of an RLE, by its own size and counts, without decoding it.

    `where` begins every message. Raises DataError.
    """
    size = rle.get("size") if isinstance(rle, dict) else None
    size = size if isinstance(size, (list, tuple)) and all(type(each) is int for each in size) else ()
    if len(size) != 2 or min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
        raise DataError(
            f"{where}: is {shown(rle)}; allowed is an RLE: counts, and size, [height, width], of at most "
            f"{MAX_PIXELS} pixels"
        )
    counts = _checked_counts(rle.get("counts"), size[0], size[1], "height x width", where)
    return int(counts[1::2].sum())


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Return the compressed RLE of a mask bool [height, width]: its size, and its counts as bytes."""
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def json_rle(rle: dict[str, Any]) -> dict[str, Any]:
    """Return an RLE for JSON, with counts as text."""
    counts = rle["counts"]
    return {"size": list(rle["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}


def paint_runs(counts: np.ndarray, height: int, width: int) -> np.ndarray:
    """Decode alternating runs of 0 and 1 by column to bool [height, width]; counts sum to height x width."""
    runs = np.arange(counts.size) % 2 == 1
    return np.repeat(runs, counts).reshape(width, height).T


def _check_polygon(polygon: Any, place: int, height: int, width: int, where: str) -> None:
    if not isinstance(polygon, (list, tuple)) or len(polygon) < 6 or len(polygon) % 2:
        got = f"{len(polygon)} numbers" if isinstance(polygon, (list, tuple)) else type(polygon).__name__
        raise DataError(
            f"{where}: polygon {place} has {got}; a polygon is a flat list [x0, y0, x1, y1, ...] of at "
            "least 3 points, so an even count of at least 6 numbers"
        )
    for x, y in zip(polygon[0::2], polygon[1::2]):
        for value, name, limit in ((x, "x", width), (y, "y", height)):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            # A polygon may stick out of its image, but not by more than the image's own size.
            if not number or not -limit <= value <= 2 * limit:
                raise DataError(
                    f"{where}: polygon {place} has {name} = {str(value)[:40]}; allowed are pixels of the "
                    f"image, 0 to {limit} (up to {limit} px outside are cut off)"
                )


def _refuse_shares(polygons: Any, height: int, width: int, where: str) -> None:
    """Raise DataError for polygons in shares of the frame, which would all be within its first pixel."""
    values = [value for polygon in polygons for value in polygon]
    # Corners of a pixel are whole numbers.
    if all(0 <= value <= 1 for value in values) and any(value % 1 for value in values):
        raise DataError(
            f"{where}: the polygons are between 0 and 1, as shares of the frame, such as x = "
            f"{values[0]:.3g}, y = {values[1]:.3g}; allowed are pixels: multiply x by the width, {width}, "
            f"and y by the height, {height}"
        )


def segmentation_to_mask(segmentation: Any, height: int, width: int, where: str) -> np.ndarray:
    """Return the mask bool [height, width] of one COCO segmentation: an RLE dict or a list of polygons.

    `where` (file, frame, object) begins every message. Raises DataError.
    """
    if isinstance(segmentation, dict) and ROWS in segmentation and "size" not in segmentation:
        return _box_to_mask(segmentation, height, width, where)
    if isinstance(segmentation, dict):
        return paint_runs(run_lengths(segmentation, height, width, where), height, width)
    if not isinstance(segmentation, (list, tuple)) or not segmentation:
        raise DataError(
            f"{where}: segmentation is {str(segmentation)[:60]!r}; allowed are an RLE dict with size and "
            "counts, or a list of at least one polygon"
        )
    for place, polygon in enumerate(segmentation):
        _check_polygon(polygon, place, height, width, where)
    _refuse_shares(segmentation, height, width, where)
    polygons = [[float(value) for value in polygon] for polygon in segmentation]
    rle = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return paint_runs(decode_counts(rle["counts"]), height, width)
