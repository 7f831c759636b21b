"""Random clips from long video files: our reader against bare PyAV, OpenCV and torchcodec.

Each reads the same clips of h264 files at full size, on one thread; the readers take turns. A peer opens the
file for each clip, as a loader must that cannot keep thousands of files open. The frame rate is constant, so
that a peer's simple seek finds the right frame. Every result is compared with decoding the file in order.
torchcodec is skipped where it, or the FFmpeg that it needs, is not installed.

    python benchmarks/decode.py [--clips 24] [--length 8] [--repeats 5] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from datetime import date
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
from machine import argument_parser, in_short, machine, spread, write_record

from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.frames.video import probe_video
from sam2vt.core.data.writing.sample_data import draw_scene
from sam2vt.core.types import VideoRecord

SIZES = {"480p": (480, 854), "1080p": (1080, 1920)}
GOPS = (12, 96)
NUM_FRAMES, RATE = 240, 25
GOAL = 0.95

Reader = Callable[[str, int, int], np.ndarray]  # (path, first frame, frames) -> uint8 RGB [K, h, w, 3]


def ours(path: str, start: int, length: int) -> np.ndarray:
    probe = probe_video(path) if path not in _RECORDS else None
    if probe is not None:
        size = probe.height, probe.width
        _RECORDS[path] = VideoRecord("v", probe.num_frames, *size, {}, video_path=path, source=path)
    return read_frames(_RECORDS[path], range(start, start + length))


_RECORDS: dict[str, VideoRecord] = {}  # found once, as a dataset does


def bare_pyav(path: str, start: int, length: int) -> np.ndarray:
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        time_of_start = (stream.start_time or 0) + round(start / RATE / stream.time_base)
        container.seek(time_of_start, stream=stream)
        frames = (frame for frame in container.decode(stream) if frame.pts >= time_of_start)
        return np.stack([frame.to_ndarray(format="rgb24") for frame in islice(frames, length)])


def opencv(path: str, start: int, length: int) -> np.ndarray:
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    capture.set(cv2.CAP_PROP_POS_FRAMES, start)
    frames = [cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB) for _ in range(length)]
    capture.release()
    return np.stack(frames)


def torchcodec(path: str, start: int, length: int) -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    options = {"seek_mode": "approximate", "num_ffmpeg_threads": 1, "dimension_order": "NHWC"}
    decoder = VideoDecoder(path, **options)
    return decoder.get_frames_in_range(start, start + length).data.numpy()


def readers() -> dict[str, Reader]:
    found: dict[str, Reader] = {"sam2vt": ours, "PyAV": bare_pyav, "OpenCV": opencv}
    try:
        import torch
        from torchcodec.decoders import VideoDecoder  # noqa: F401

        torch.set_num_threads(1)
        found["torchcodec"] = torchcodec
    except (ImportError, RuntimeError, OSError) as error:
        print(f"torchcodec is left out: {str(error).splitlines()[0]}", file=sys.stderr)
    return found


def write_files(folder: Path, num_frames: int) -> dict[str, str]:
    """A file of each size and GOP, with B-frames and a little film grain: name -> path."""
    paths = {}
    for name, size in SIZES.items():
        scene = draw_scene(np.random.default_rng(0), num_frames, size, ("front",))
        grain = np.random.default_rng(1).normal(0, 4, (*size, 1)).astype(np.float32)
        containers = {}
        for gop in GOPS:
            paths[f"{name}, GOP {gop}"] = str(folder / f"{name}_{gop}.mp4")
            container = av.open(paths[f"{name}, GOP {gop}"], "w")
            options = {"preset": "veryfast", "crf": "23", "g": str(gop), "keyint_min": str(gop), "bf": "2"}
            stream = container.add_stream("libx264", rate=Fraction(RATE), options=options)
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            containers[gop] = container, stream
        for i in range(num_frames):
            pixels = np.clip(scene.frame(i)[0] + np.roll(grain, 7 * i, (0, 1)), 0, 255).astype(np.uint8)
            for container, stream in containers.values():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        for container, stream in containers.values():
            container.mux(stream.encode(None))
            container.close()
    return paths


def in_order(path: str) -> list[int]:
    """A checksum of each frame."""
    with av.open(path) as container:
        frames = (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
        return [zlib.crc32(np.ascontiguousarray(frame)) for frame in frames]


def wrong_frames(read: Reader, path: str, starts: list[int], length: int) -> int:
    expected = in_order(path)
    wrong = 0
    for start in starts:
        found = [zlib.crc32(np.ascontiguousarray(frame)) for frame in read(path, start, length)]
        wrong += sum(a != b for a, b in zip(found, expected[start : start + length]))
    return wrong


def seconds(read: Reader, path: str, starts: list[int], length: int) -> float:
    """Of one core, all threads together."""
    began = time.process_time()
    for start in starts:
        read(path, start, length)
    return time.process_time() - began


def measure(path: str, sides: dict[str, Reader], options: argparse.Namespace) -> dict[str, list[float]]:
    """Clips a second of each reader, a figure a turn."""
    last = options.frames - options.length
    starts = np.random.default_rng(2).integers(0, last, options.clips).tolist()
    for name, read in sides.items():  # the first use of each is not timed
        wrong = wrong_frames(read, path, starts, options.length)
        if wrong:
            print(
                f"{path}: {name}: {wrong} of {options.clips * options.length} frames are not those asked for"
            )
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(options.repeats):
        names = list(sides)[turn % len(sides) :] + list(sides)[: turn % len(sides)]
        for name in names:
            rates[name].append(options.clips / seconds(sides[name], path, starts, options.length))
    return rates


def row(name: str, rates: dict[str, list[float]], length: int) -> str:
    def ratio(peer: str) -> str:
        if peer not in rates:
            return "not installed"
        return f"{statistics.median(a / b for a, b in zip(rates['sam2vt'], rates[peer])):.2f}"

    frames = statistics.median(rates["sam2vt"]) * length
    peers = " | ".join(ratio(peer) for peer in ("PyAV", "OpenCV", "torchcodec"))
    return f"| {name} | {spread(rates['sam2vt'])} | {frames:.0f} | {peers} |"


def main() -> None:
    parser = argument_parser(__doc__, repeats=5)
    parser.add_argument("--clips", type=int, default=24, help="of each file in a turn")
    parser.add_argument("--length", type=int, default=8, help="frames of a clip")
    parser.add_argument("--frames", type=int, default=NUM_FRAMES, help="of a file")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    sides = readers()
    with tempfile.TemporaryDirectory(prefix="decode-") as folder:
        files = write_files(Path(folder), options.frames)
        found = {name: measure(path, sides, options) for name, path in files.items()}
    against_pyav = [
        statistics.median(a / b for a, b in zip(rates["sam2vt"], rates["PyAV"])) for rates in found.values()
    ]
    reached = "reached" if min(against_pyav) >= GOAL else "not reached"
    lines = [
        f"# Reading clips from video files, {date.today():%B %Y}",
        "",
        f"Machine: {machine()}; PyAV {av.__version__}, OpenCV {cv2.__version__}, Python "
        f"{sys.version.split()[0]}; {date.today().isoformat()}.",
        f"h264 of {options.frames} frames; {options.clips} clips of {options.length} frames at full size, "
        f"from random places, on one thread; medians of {options.repeats} turns (lowest to highest), "
        "seconds of a core.",
        f"Goal: at least {GOAL} of bare PyAV's clips a second: {reached} ({min(against_pyav):.2f} at least).",
        "",
        "| file | sam2vt, clips/s | frames/s | against PyAV | against OpenCV | against torchcodec |",
        "|---|---:|---:|---:|---:|---:|",
        *(row(name, rates, options.length) for name, rates in found.items()),
        "",
        in_short(f"{min(against_pyav):.2f} to {max(against_pyav):.2f} x the clips per second of bare PyAV"),
    ]
    write_record("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
