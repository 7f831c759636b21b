"""Frames into a video file that is read back frame by frame."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av
import numpy as np

from sam2vt.errors import DataError


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    fps: float,
    crf: int = 10,
    exact_size: bool = False,
) -> None:
    """Encodes frames, uint8 RGB [h, w, 3] all of one size, as H.264, or MPEG-4 where that is missing.

    An odd height or width grows by one repeated row or column, which both codecs need; with `exact_size` it
    stays, as H.264 with full colours, which fewer players show. `crf` is H.264's quality, 0 (lossless) to 51.
    Frame i is read back as frame i, and the same frames give the same file. Raises DataError if there is no
    frame.
    """
    with av.open(os.fspath(path), "w") as container:
        stream: Any = None
        for frame in frames:
            odd_rows, odd_columns = frame.shape[0] % 2, frame.shape[1] % 2
            full_colours = exact_size and bool(odd_rows or odd_columns)
            if not full_colours:
                frame = np.pad(frame, [(0, odd_rows), (0, odd_columns), (0, 0)], mode="edge")
            if stream is None:
                stream = _add_stream(container, frame, fps, crf)
                stream.pix_fmt = "yuv444p" if full_colours else "yuv420p"
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"))
            )
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
