"""Read image files: sizes by header, RGB frames, resizing."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sam2vt.core.storage.disk import unreadable
from sam2vt.errors import DataError, located

# 11585 x 11585. A small file can claim more than memory holds; its header is read before any pixel.
MAX_PIXELS = 1 << 27
# Pillow knows formats that run other programs; these are what frames and masks come in.
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")
_EXIF_ORIENTATION = 0x0112
_FRAMES_LOOKED_AT = 16  # for the range of their values
# What Pillow raises for files that were cut, changed or made to harm.
_DAMAGE = (OSError, ValueError, SyntaxError, struct.error, IndexError, KeyError, TypeError, OverflowError)


def open_image(path: str, what: str = "image", data: bytes | None = None) -> Image.Image:
    """Return the opened image, without reading pixels. Raises DataError if there is none, or more than one.

    `data` is the file's content if it is stored elsewhere; `path` then names the place in messages.
    """
    # A pipe would block, and Pillow opens folders with a message of its own.
    if data is None and not os.path.isfile(path):
        gone = "is no regular file" if os.path.lexists(path) else "does not exist"
        raise DataError(f"{path}: the {what} {gone}; restore the file or remove its annotation")
    try:
        with warnings.catch_warnings():  # Pillow warns from below our limit on
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path if data is None else BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(path, what, str(error)) from None
    except (UnidentifiedImageError, *_DAMAGE) as error:
        raise _not_opened(path, what, error, data) from None
    width, height = image.size
    try:
        if width * height > MAX_PIXELS:
            raise _too_large(path, what, f"it is {width}x{height}")
        _check_single(image, path, what)
    except DataError:
        image.close()
        raise
    return image


def _not_opened(path: str, what: str, error: Exception, data: bytes | None) -> DataError:
    if data is None and isinstance(error, PermissionError):
        return unreadable(path, error)
    is_empty = os.path.getsize(path) == 0 if data is None else not data
    reason = "the file is empty" if is_empty else f"{error}"
    return DataError(
        f"{path}: the {what} cannot be opened as an image: {reason}; copy or export the file again"
        f"{'' if is_empty else ' as ' + ', '.join(_FORMATS)}"
    )


def read_pixels(image: Image.Image, path: str, what: str = "image") -> np.ndarray:
    """Return the pixels of an opened image as its own type, [height, width] or [height, width, channels]."""
    with _refusing_damage(path, what):
        return np.asarray(image)


@contextmanager
def _refusing_damage(path: str, what: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise DataError(f"{path}: the {what} is damaged: {error}; export or copy the file again") from None


def image_size(path: str, what: str = "image") -> tuple[int, int]:
    """Return (height, width) as displayed, from the header alone."""
    with located(file=path), open_image(path, what) as image:
        width, height = image.size
        with _refusing_damage(path, f"EXIF data of the {what}"):
            # Pillow would decode a whole PNG to look for an orientation behind its pixels.
            is_plain = image.format == "PNG" and "exif" not in image.info
            turned = not is_plain and image.getexif().get(_EXIF_ORIENTATION) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def is_deep(image: Image.Image) -> bool:
    """Return whether a gray image has more than 8 bits per pixel."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def read_rgb(path: str, intensity_range: Any = None, data: bytes | None = None) -> np.ndarray:
    """Return an image as uint8 RGB [height, width, 3], turned by its EXIF orientation.

    Gray images of more than 8 bits need `intensity_range`: the values that become 0 and 255. All frames of a
    video share it, so that the brightness does not flicker. `data` as for `open_image`.
    """
    with open_image(path, "frame", data) as image:
        if is_deep(image) != (intensity_range is not None):
            raise DataError(
                f"{path}: the frame has more than 8 bits a channel; save frames as 8 bit images"
                if intensity_range is None
                else f"{path}: the frame is no 16 bit gray image, as the other frames of its video are; save "
                "all frames of a video in one depth"
            )
        if intensity_range is not None:
            return _scaled(read_pixels(image, path, "frame"), *intensity_range)
        with _refusing_damage(path, "frame"):
            # Masks are drawn on frames as viewers show them: turned.
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def intensity_range(paths: Sequence[str]) -> tuple[float, float] | None:
    """Return the range that scales all frames of a video to 8 bits; None if the first has 8 bits.

    It cuts off the darkest and brightest 0.1 percent of pixels in up to 16 evenly spaced frames.
    """
    with located(file=paths[0], frame=0), open_image(paths[0], "frame") as image:
        if not is_deep(image):
            return None
    # Decoding all frames of a long sequence would take minutes.
    places = np.linspace(0, len(paths) - 1, min(len(paths), _FRAMES_LOOKED_AT)).round().astype(int)
    # Single hot pixels would else leave all cells dark.
    bounds = [np.percentile(_gray(paths[place], int(place)), (0.1, 99.9)) for place in places]
    return float(min(low for low, _ in bounds)), float(max(high for _, high in bounds))


def _gray(path: str, frame: int) -> np.ndarray:
    with located(file=path, frame=frame):
        with open_image(path, "frame") as image:
            pixels = read_pixels(image, path, "frame")
        if pixels.ndim != 2 or not np.isfinite(pixels).all():
            raise DataError(f"{path}: the frame is no gray image of numbers; save it as 16 bit gray")
    return pixels


def resize_frame(frame: np.ndarray, size: tuple[int, int], as_stock: bool = False) -> np.ndarray:
    """Return a frame [h, w, 3] resized to (height, width): by area if it shrinks, else bilinear.

    `as_stock` uses Pillow's bicubic filter, as SAM 2's video predictor does for images.
    """
    height, width = frame.shape[:2]
    if (height, width) == tuple(size):
        return frame
    if as_stock:
        return np.array(Image.fromarray(frame).resize((size[1], size[0])))  # a view of an image is read-only
    shrinks = size[0] <= height and size[1] <= width
    # Linear sampling of a shrinking frame skips pixels, and edges flicker.
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(frame, (size[1], size[0]), interpolation=interpolation)


def _check_single(image: Any, path: str, what: str) -> None:
    """Refuse animations and stacks; an MPO, as phones write it, is a photo with a second one behind it."""
    with _refusing_damage(path, what):
        # Pillow tells a stack of a TIFF only by counting its pages.
        several = image.format == "TIFF" and image.n_frames > 1
        several |= image.format in ("PNG", "GIF", "WEBP") and getattr(image, "is_animated", False)
    if several:
        raise DataError(
            f"{path}: the {what} holds several images (an animation, or a stack of slices); allowed is one "
            "image a file: write each into a file of its own"
        )


def _too_large(path: str, what: str, size: str) -> DataError:
    return DataError(
        f"{path}: the {what} is too large: {size}; allowed are {MAX_PIXELS} pixels. Resize it, or remove it "
        "if it is no image of yours"
    )


def _scaled(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale gray values from `low` to `high` to uint8 RGB [height, width, 3]."""
    share = (pixels.astype(np.float64) - low) / max(high - low, 1)
    gray = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def resize_mask(mask: np.ndarray, size: tuple[int, int], as_stock: bool = False) -> np.ndarray:
    """Return a mask at another size: bool [h, w] -> bool [H, W], `size` being (H, W) in pixels.

    A pixel belongs to the object if the object covers at least half of it. An object that covers half of no
    pixel keeps the pixels that it covers most: resizing never removes an object. `as_stock` weights pixels as
    SAM 2's video predictor does for mask prompts.
    """
    if mask.shape == tuple(size):
        return mask.copy()
    if as_stock:
        weights = Image.fromarray(mask.astype(np.float32)).resize(size[::-1], Image.Resampling.BILINEAR)
        return np.asarray(weights) >= min(0.5, np.asarray(weights).max())
    coverage: np.ndarray = mask.astype(np.float32)
    # Sides that shrink first, by area, then those that grow: linear sampling alone skips thin objects.
    smaller = (min(size[0], mask.shape[0]), min(size[1], mask.shape[1]))
    if smaller != mask.shape:
        coverage = cv2.resize(coverage, smaller[::-1], interpolation=cv2.INTER_AREA)
    if smaller != tuple(size):
        coverage = cv2.resize(coverage, size[::-1], interpolation=cv2.INTER_LINEAR)
    threshold = min(0.5, float(coverage.max()))
    # A whisker below the threshold: half a pixel summed in float32 may come out as 0.4999.
    return (coverage > 0) & (coverage >= threshold - 1e-4)
