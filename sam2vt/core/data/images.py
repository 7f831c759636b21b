"""Image files: sizes by header, RGB frames, resizing."""

from __future__ import annotations

import os

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sam2vt.errors import DataError

_EXIF_ORIENTATION = 0x0112


def open_image(path: str, what: str = "image") -> Image.Image:
    """The opened image, pixels not yet read. Raises DataError where there is none."""
    if not os.path.isfile(path):
        raise DataError(f"{path}: the {what} does not exist; restore the file or remove its annotation")
    try:
        return Image.open(path)
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: the {what} cannot be opened as an image: {error}") from None


def read_pixels(image: Image.Image, path: str, what: str = "image") -> np.ndarray:
    """The pixels of an opened image as its own type, [height, width] or [height, width, channels]."""
    try:
        return np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: the {what} is damaged: {error}; write the file anew") from None


def image_size(path: str, what: str = "image") -> tuple[int, int]:
    """(height, width) as displayed, from the header alone."""
    with open_image(path, what) as image:
        width, height = image.size
        try:
            turned = _orientation(image) in (5, 6, 7, 8)
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{path}: the {what} is damaged: {error}; write the file anew") from None
    return (width, height) if turned else (height, width)


def _orientation(image: Image.Image) -> int:
    """As EXIF numbers it. Pillow would decode a whole PNG to look for one behind its pixels."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return image.getexif().get(_EXIF_ORIENTATION, 1)


def read_rgb(path: str) -> np.ndarray:
    """An image as uint8 RGB [height, width, 3], turned as its EXIF orientation says."""
    with open_image(path, "frame") as image:
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            raise DataError(f"{path}: the frame has more than 8 bits a channel; save frames as 8 bit images")
        try:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{path}: the frame is damaged: {error}; write the file anew") from None
        return np.array(upright)


def resize_frame(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A frame [h, w, 3] at size (height, width): by area when it shrinks, else bilinear."""
    height, width = frame.shape[:2]
    if (height, width) == tuple(size):
        return frame
    shrinks = size[0] <= height and size[1] <= width
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(frame, (size[1], size[0]), interpolation=interpolation)
