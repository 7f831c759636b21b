"""The kind `Figures`: Supervisely's bitmaps in base64 and zlib, and polygons with holes."""

from __future__ import annotations

import base64
import binascii
import io
import zlib
from typing import Any

import numpy as np
from PIL import Image

from sam2vt.core.data.masks.rle import segmentation_to_mask
from sam2vt.errors import DataError

FIGURE = "figure"  # in a segmentation: "bitmap" or "polygon"
_MAX_PNG_BYTES = 1 << 26  # of a mask, unpacked


def figure_to_mask(figure: dict[str, Any], height: int, width: int, where: str) -> np.ndarray:
    """Return the mask bool [height, width] of a figure as `formats.supervisely` made it. Raises DataError."""
    if figure[FIGURE] == "bitmap":
        return _bitmap(figure["data"], figure["origin"], height, width, where)
    mask = _polygon(figure["exterior"], height, width, where)
    for hole in figure["interior"]:
        mask &= ~_polygon(hole, height, width, where)
    return mask


def _polygon(points: list[list[float]], height: int, width: int, where: str) -> np.ndarray:
    return segmentation_to_mask([[value for point in points for value in point]], height, width, where)


def _bitmap(data: str, origin: list[int], height: int, width: int, where: str) -> np.ndarray:
    pixels = _read_png(_unpack(data, where), height, width, where)
    left, top = origin
    if left < 0 or top < 0 or left + pixels.shape[1] > width or top + pixels.shape[0] > height:
        raise DataError(
            f"{where}: the bitmap, {pixels.shape[1]}x{pixels.shape[0]} at x={left}, y={top}, is not "
            f"within the frame of {width}x{height}; export the project with its own videos"
        )
    mask = np.zeros((height, width), dtype=bool)
    mask[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return mask


def _unpack(data: str, where: str) -> bytes:
    """Return the unpacked data, at most `_MAX_PNG_BYTES`, however small it is packed."""
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(base64.b64decode(data, validate=True), _MAX_PNG_BYTES)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise DataError(f"{where}: the bitmap's data cannot be unpacked: {error}; export it again") from None
    # A few bytes may unpack to gigabytes.
    if unpacker.unconsumed_tail or not unpacker.eof:
        what = f"is larger than {_MAX_PNG_BYTES} bytes" if unpacker.unconsumed_tail else "ends too early"
        raise DataError(f"{where}: the bitmap's data {what} when unpacked; export the figure again")
    return content


def _read_png(content: bytes, height: int, width: int, where: str) -> np.ndarray:
    """Return where a bitmap is set: its alpha where it has one, else its values; bool [h, w]."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            # By the header, before memory for its pixels is taken.
            if image.size[0] > width or image.size[1] > height:
                raise DataError(
                    f"{where}: the bitmap is {image.size[0]}x{image.size[1]}, larger than the frame of "
                    f"{width}x{height}; export the project with its own videos"
                )
            shown = image.convert("RGBA" if "A" in image.mode or "transparency" in image.info else "L")
            pixels = np.array(shown)
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: the bitmap is no PNG: {error}; export the figure again") from None
    return pixels[..., 3] > 0 if pixels.ndim == 3 else pixels > 0
