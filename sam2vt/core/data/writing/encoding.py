"""Frames as encoded images: as they lie on disk, or written anew as JPEG or PNG."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
from PIL import Image

from sam2vt.core.data.frames.images import image_size
from sam2vt.core.data.frames.reading import iterate_frames
from sam2vt.core.data.frames.video import video_source
from sam2vt.core.data.packed.reader import iterate_images
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError, DataError

_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "BMP": ".bmp", "WEBP": ".webp", "TIFF": ".tif"}


@dataclass(frozen=True)
class Encoding:
    """`keep`: what is an image stays as it is. `png` loses nothing, `jpeg` as its quality says."""

    kind: str = "keep"
    quality: int = 95

    @property
    def suffix(self) -> str:
        return ".jpg" if self.kind == "jpeg" else ".png"

    def __str__(self) -> str:
        return f"jpeg:{self.quality}" if self.kind == "jpeg" else self.kind


def parse_encoding(text: str) -> Encoding:
    """keep, png or jpeg:1 to jpeg:100. Raises ConfigError for anything else."""
    match = re.fullmatch(r"(keep|png)|jpeg:([1-9]\d?|100)", text)
    if match is None:
        raise ConfigError(f"--encode {text}: allowed are keep, png, and jpeg:1 to jpeg:100, such as jpeg:95")
    return Encoding(match.group(1)) if match.group(1) else Encoding("jpeg", int(match.group(2)))


def has_images(record: VideoRecord) -> bool:
    """Whether each frame lies somewhere as an encoded image."""
    return video_source(record) is None


def is_kept(record: VideoRecord, encoding: Encoding) -> bool:
    return encoding.kind == "keep" and has_images(record)


def encoded_frames(record: VideoRecord, frames: range, encoding: Encoding) -> Iterator[bytes]:
    """These frames in order, one at a time. `keep` is for records that have images."""
    if is_kept(record, encoding):
        yield from kept_images(record, frames)
        return
    for frame in iterate_frames(replace(record, frame_range=(frames.start, frames.stop))):
        yield encode_image(frame, encoding)


def kept_images(record: VideoRecord, frames: Sequence[int]) -> Iterator[bytes]:
    """The content of the image files. Raises DataError for one that is missing, or of another size."""
    if record.packed is not None:
        for _, _, data in iterate_images(record, frames):
            yield data
        return
    assert record.frame_paths is not None
    for index in frames:
        path = record.frame_paths[index]
        height, width = image_size(path, "frame")
        if (height, width) != (record.height, record.width):
            raise DataError(
                f"{path}: frame {index} is {width}x{height} (width x height), the video {record.video_id} is "
                f"{record.width}x{record.height}; all frames must have one size"
            )
        with open(path, "rb") as file:
            yield file.read()


def encode_image(frame: np.ndarray, encoding: Encoding) -> bytes:
    """uint8 RGB [h, w, 3] as the content of a file."""
    buffer = BytesIO()
    image = Image.fromarray(frame)
    if encoding.kind == "jpeg":
        image.save(buffer, "JPEG", quality=encoding.quality)
    else:
        image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def image_suffix(data: bytes) -> str:
    """The usual ending of an image file with this content."""
    with Image.open(BytesIO(data)) as image:
        return _SUFFIXES[str(image.format)]
