"""Encode frames as JPEG or PNG, or keep their files, and write video files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
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
    """`keep`: images stay as they are. `png` is lossless, `jpeg` has a quality."""

    kind: str = "keep"
    quality: int = 95


def parse_encoding(text: str) -> Encoding:
    """Parse keep, png or jpeg:1 to jpeg:100. Raises ConfigError for anything else."""
    match = re.fullmatch(r"(keep|png)|jpeg:([1-9]\d?|100)", text)
    if match is None:
        raise ConfigError(f"--encode {text}: allowed are keep, png, and jpeg:1 to jpeg:100, such as jpeg:95")
    return Encoding(match.group(1)) if match.group(1) else Encoding("jpeg", int(match.group(2)))


def has_images(record: VideoRecord) -> bool:
    """Return whether each frame is stored as an encoded image."""
    return video_source(record) is None


def is_kept(record: VideoRecord, encoding: Encoding) -> bool:
    return encoding.kind == "keep" and has_images(record)


def encoded_frames(record: VideoRecord, frames: range, encoding: Encoding) -> Iterator[bytes]:
    """Yield these frames in order. `keep` is for records that have images."""
    if is_kept(record, encoding):
        yield from _kept_images(record, frames)
        return
    for frame in iterate_frames(replace(record, frame_range=(frames.start, frames.stop))):
        yield encode_image(frame, encoding)


def _kept_images(record: VideoRecord, frames: Sequence[int]) -> Iterator[bytes]:
    """Yield the content of the image files. Raises DataError for one that is missing, or of another size."""
    if record.packed is not None:
        for _, _, data in iterate_images(record, frames):
            yield data
        return
    assert record.frame_paths is not None
    for index in frames:
        path = record.frame_paths[index]
        # What is copied unread here would fail in a training.
        height, width = image_size(path, "frame")
        if (height, width) != (record.height, record.width):
            raise DataError(
                f"{path}: frame {index} is {width}x{height} (width x height), the video {record.video_id} is "
                f"{record.width}x{record.height}; all frames must have one size"
            )
        with open(path, "rb") as file:
            yield file.read()


def encode_image(frame: np.ndarray, encoding: Encoding) -> bytes:
    """Encode uint8 RGB [h, w, 3] as the content of a file."""
    buffer = BytesIO()
    image = Image.fromarray(frame)
    if encoding.kind == "jpeg":
        image.save(buffer, "JPEG", quality=encoding.quality)
    else:
        # Speed counts more here than the last percent of size.
        image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def image_suffix(data: bytes) -> str:
    """Return the usual ending of an image file with this content."""
    with Image.open(BytesIO(data)) as image:
        return _SUFFIXES[str(image.format)]


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    fps: float,
    crf: int = 10,
    exact_size: bool = False,
) -> None:
    """Encode frames, uint8 RGB [h, w, 3] all of one size, as H.264, or MPEG-4 where that is missing.

    An odd height or width grows by one repeated row or column, which both codecs need. With `exact_size` it
    stays, as H.264 with full colours, which fewer players show. `crf` is H.264's quality, 0 (lossless) to 51.
    Frame i is read back as frame i, and the same frames give the same file. Raises DataError if there is no
    frame.
    """
    with video_encoder(path, fps, crf, exact_size) as add:
        for frame in frames:
            add(frame)


@contextmanager
def video_encoder(
    path: str | os.PathLike[str],
    fps: float,
    crf: int = 10,
    exact_size: bool = False,
    container_options: dict[str, str] | None = None,
) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that takes one frame after another; the file is complete when the block ends.

    Arguments and errors are those of `write_video`; `container_options` are FFmpeg's, such as movflags.
    """
    with av.open(os.fspath(path), "w", options=container_options or {}) as container:
        stream: Any = None

        def add(frame: np.ndarray) -> None:
            nonlocal stream
            odd_rows, odd_columns = frame.shape[0] % 2, frame.shape[1] % 2
            full_colours = exact_size and bool(odd_rows or odd_columns)
            if not full_colours:
                frame = np.pad(frame, [(0, odd_rows), (0, odd_columns), (0, 0)], mode="edge")
            if stream is None:
                stream = _add_stream(container, frame, fps, crf)
                stream.pix_fmt = "yuv444p" if full_colours else "yuv420p"
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))

        yield add
        if stream is None:
            raise DataError(f"{os.fspath(path)}: a video needs at least one frame; got none to write")
        container.mux(stream.encode(None))


def _add_stream(container: Any, first: np.ndarray, fps: float, crf: int) -> Any:
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    # With x264's macroblock tree small frames come out differently from one time to the next.
    always = {"crf": str(crf), "preset": "fast", "x264-params": "mbtree=0"}
    options = always if codec == "libx264" else {"qscale": "2"}
    stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
    stream.height, stream.width = first.shape[:2]
    stream.codec_context.thread_count = 1
    return stream
