"""Colours against the formulas of their standards: matrix, range and depth as the file flags them."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.frames.video import probe_video
from sam2vt.core.types import VideoRecord

# Luma weights of red and blue (ITU-R BT.601, BT.709, BT.2020), and the number of the matrix in H.273.
MATRICES = {"bt601": (0.299, 0.114, 5), "bt709": (0.2126, 0.0722, 1), "bt2020": (0.2627, 0.0593, 9)}
PATCH = 16  # pixels: chroma is not smeared over the middle of a patch
ROWS, COLUMNS = 4, 6


def as_rgb(y, cb, cr, matrix: str, full: bool, bits: int) -> np.ndarray:
    """Colours 0 to 255, not rounded, of planes [rows, columns]."""
    red, blue, _ = MATRICES[matrix]
    step = 2 ** (bits - 8)
    luma_span, chroma_span, black = (2**bits - 1,) * 2 + (0,) if full else (219 * step, 224 * step, 16 * step)
    luma = (y - black) / luma_span
    blue_part, red_part = ((each - 128 * step) / chroma_span for each in (cb, cr))
    r, b = luma + 2 * (1 - red) * red_part, luma + 2 * (1 - blue) * blue_part
    g = (luma - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.stack([r, g, b], axis=-1) * 255, 0, 255)


def write_patches(path, planes, matrix: str, full: bool, bits: int) -> None:
    """A lossless video of one frame, flagged with its matrix and range."""
    dtype, pixels = (np.uint8, "yuv420p") if bits == 8 else (np.uint16, "yuv420p10le")
    frame = av.VideoFrame(COLUMNS * PATCH, ROWS * PATCH, pixels)
    for plane, values, size in zip(frame.planes, planes, (PATCH, PATCH // 2, PATCH // 2)):
        padded = np.zeros((plane.height, plane.line_size // np.dtype(dtype).itemsize), dtype)
        patches = np.kron(values, np.ones((size, size), int))
        padded[:, : patches.shape[1]] = patches
        plane.update(padded.tobytes())
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pixels
        stream.codec_context.colorspace = MATRICES[matrix][2]
        stream.codec_context.color_range = 2 if full else 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("bits", [8, 10])
def test_colours_are_those_of_the_standard(tmp_path, bits, matrix, full):
    rng, step = np.random.default_rng(0), 2 ** (bits - 8)
    y, cb, cr = (
        rng.integers(low, high, (ROWS, COLUMNS)) * step for low, high in [(90, 160), *[(70, 186)] * 2]
    )
    path = tmp_path / "patches.mkv"
    write_patches(path, (y, cb, cr), matrix, full, bits)
    probe = probe_video(path)
    record = VideoRecord("v", 1, probe.height, probe.width, {}, video_path=str(path), source=str(path))
    middle = read_frames(record, [0])[0][PATCH // 2 :: PATCH, PATCH // 2 :: PATCH]
    expected = as_rgb(y, cb, cr, matrix, full, bits)
    assert np.abs(middle - expected).max() < 4  # FFmpeg rounds down at each step
    # The check can fail: another matrix or range is further off.
    for other in [(each, full) for each in MATRICES if each != matrix] + [(matrix, not full)]:
        assert np.abs(middle - as_rgb(y, cb, cr, *other, bits)).max() > 4.5
