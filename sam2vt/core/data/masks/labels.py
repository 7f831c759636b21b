"""Read PNG masks: interpret pixel values, and refuse files that are not label images.

- A palette image contains object ids; 255 is void (DAVIS, YouTube-VOS), even if it is the only value: an area
  that belongs to no object and counts nowhere. A palette that is a gray ramp is read as a gray image.
- A gray image contains object ids, too. If 255 is its only value besides 0, it is a binary mask: object 1.
  255 beside other ids is void.
- A 16 bit gray image contains object ids, without void.
- Colour images are refused, and so are anti-aliased ones (see `is_anti_aliased`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sam2vt.core.data.frames.images import image_size, open_image, read_pixels
from sam2vt.core.data.masks.kind import naming_frame
from sam2vt.core.data.masks.palettes import check_ground, palette_of
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

VOID = 255
_LABEL_MODES = ("P", "L", "1", "I", "I;16", "I;16B", "I;16L", "I;16N")
# Ids of gray images are small numbers; values from here on beside 255 are shades, not ids beside void.
_SMALLEST_SHADE = 100
# A mask that is worth smoothing is drawn with at least this value.
_SMALLEST_SMOOTHED = 32


@dataclass(frozen=True)
class Labels:
    """A label image: its pixels, the values besides 0, and its palette if that has colours."""

    pixels: np.ndarray  # integers [height, width]
    values: tuple[int, ...]  # ascending
    palette: bytes = b""  # RGB by index

    @property
    def coloured(self) -> bool:
        """Whether it has a palette with colours."""
        return bool(self.palette)


def read_labels(path: str) -> Labels:
    """Return the label image of a PNG. Raises DataError naming the file if it contains no labels."""
    labels = read_indices(path)
    # Here, not where colours are compared: masks of single objects have a ground, too.
    check_ground(path, labels.palette, (int(labels.pixels.min()), *labels.values))
    return labels


def read_indices(path: str) -> Labels:
    """Return the label image without checking its colours. Raises DataError if it contains no labels."""
    with open_image(path, "mask") as image:
        if image.mode not in _LABEL_MODES:
            raise DataError(
                f"{path}: the mask is a {image.mode} image; allowed are palette (P) and gray (L, 1, I;16) "
                "images whose pixel values are object ids: save the ids, not their colours, or say with "
                "dataset.colours (--colours; of a validation set: valdataset.colours) which is which class"
            )
        pixels = read_pixels(image, path, "mask")  # first: a palette is known when the file has been read
        palette = palette_of(image) if image.mode == "P" else b""
    # Pillow reads 1 bit images as bool, which has no minimum below 0 to check.
    pixels = pixels.astype(np.uint8) if pixels.dtype == bool else pixels
    if pixels.ndim != 2 or pixels.min() < 0:
        raise DataError(f"{path}: the mask has negative values; allowed are object ids from 0 on: save ids")
    values = tuple(value for value in _distinct(pixels) if value)
    if pixels.dtype == np.uint8 and not palette and is_anti_aliased(pixels, values):
        raise DataError(
            f"{path}: the mask looks anti-aliased: {len(values)} values ({_some(values)}), most of them only "
            "along edges, where no object has such an id; allowed are pixel values that are object ids. "
            "Save masks without smoothing and resize them by nearest neighbour"
        )
    return Labels(pixels, values, palette)


def object_values(labels: Labels, path: str, binary: bool | None = None) -> dict[int, int]:
    """Return object id -> pixel value for the objects in a label image.

    `binary` says whether a gray image with 255 as its only value shows an object (with id 1) or only void;
    None means an object.
    """
    if VOID not in labels.values or labels.pixels.dtype != np.uint8:
        return {value: value for value in labels.values}
    others = [value for value in labels.values if value != VOID]
    # A palette of colours is DAVIS's: 255 is void there even alone.
    if others or labels.coloured:
        if others and not labels.coloured and others[-1] >= _SMALLEST_SHADE:
            raise DataError(
                f"{path}: the gray mask has the values {_some(labels.values)}: 255 beside ids is void, but "
                f"{others[-1]} looks like a shade, so 255 may be an object, too; allowed are object ids "
                f"below {_SMALLEST_SHADE} beside 255 as void, or 0 and 255 alone: number objects 1, 2, 3"
            )
        return {value: value for value in others}
    return {} if binary is False else {1: VOID}


def is_anti_aliased(pixels: np.ndarray, values: tuple[int, ...]) -> bool:
    """Return whether a gray image is a smoothed mask instead of a label image.

    Smoothing puts pixels of intermediate values between two areas. So a value counts as a shade if at least
    four fifths of its pixels have both a lower and a higher value among their 8 neighbours. One or two
    objects may be that thin. An image is refused if at least 3 of its values are shades, and at least as many
    as its other values besides 0. Images with values below 32 only are never refused: such low numbers are
    ids.
    """
    if len(values) < 4 or values[-1] < _SMALLEST_SMOOTHED:
        return False
    # Replicated, so that an edge of the image is no edge of an object.
    padded = cv2.copyMakeBorder(pixels, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    kernel = np.ones((3, 3), dtype=np.uint8)
    lower = cv2.erode(padded, kernel)[1:-1, 1:-1] < pixels
    higher = cv2.dilate(padded, kernel)[1:-1, 1:-1] > pixels
    totals = np.bincount(pixels.ravel(), minlength=256)
    between = np.bincount(pixels[lower & higher], minlength=256)
    num_shades = sum(between[value] >= 0.8 * totals[value] for value in values)
    return bool(num_shades >= 3 and num_shades >= len(values) - num_shades)


def _distinct(pixels: np.ndarray) -> list[int]:
    if pixels.dtype == np.uint8:
        return np.flatnonzero(np.bincount(pixels.ravel(), minlength=256)).tolist()
    return np.unique(pixels).tolist()


def _some(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")


def void_pixels(labels: Labels, objects: dict[int, int]) -> np.ndarray | None:
    """Return the void pixels, bool [height, width]; None where 255 is an object or absent."""
    has_void = labels.pixels.dtype == np.uint8 and VOID in labels.values and VOID not in objects.values()
    return labels.pixels == VOID if has_void else None


def read_checked(record: VideoRecord, frame_index: int, path: str) -> Labels:
    """Return the label image of a frame. Raises DataError if their sizes differ."""
    with naming_frame(record, frame_index):
        check_size(record, path)
        return read_labels(path)


def check_size(record: VideoRecord, path: str) -> None:
    """Raise DataError if a mask, by its header, does not have the frames' size."""
    height, width = image_size(path, "mask")
    if (height, width) != (record.height, record.width):
        frames = record.video_path or (record.frame_paths or (record.source,))[0]
        raise DataError(
            f"{path}: the mask is {width}x{height} (width x height), its frame is {record.width}x"
            f"{record.height} ({frames}); both must have one size: resize the mask by nearest neighbour"
        )
