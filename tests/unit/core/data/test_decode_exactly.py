"""Every frame of every readable file in clips in random order, and what a clip costs in frames and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib

import av
import numpy as np
import pytest

from sam2vt.core.data.frames import video as decoding
from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.frames.video import probe_video
from sam2vt.core.types import VideoRecord

READABLE = (
    "av1_video.mkv",
    "decord_unordered.mov",
    "discard_first_keyframe.mp4",
    "fire2.mp4",
    "h265_video.mp4",
    "nasa_13013.mp4",
    "nasa_13013_hdr.mp4",
    "nasa_13013_rotated.mp4",
    "no_duration.webm",
    "sleap_1500frames_1024.mp4",
    "testsrc2_vp9.webm",
    "track-anything_test-sample2_vfr.mp4",
)
LONG = "sleap_1500frames_1024.mp4"
CLIP = 8
SINGLE_FRAMES = 12
MOST_CLIPS = 24  # of a file: longer files are read in longer clips, and of these no more than
READ_CLIPS = 12  # where a file has hundreds of frames
MANY_FRAMES = 500


def as_record(path) -> VideoRecord:
    probe = probe_video(path)
    return VideoRecord(
        "v", probe.num_frames, probe.height, probe.width, {}, video_path=str(path), source=str(path)
    )


def digests(path, turns) -> list[int]:
    """Of each frame, by decoding the file once from its start."""
    with av.open(str(path)) as container:
        frames = (frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
        return [zlib.crc32(np.ascontiguousarray(np.rot90(frame, turns))) for frame in frames]


@pytest.mark.parametrize("name", READABLE)
def test_every_frame_in_clips_and_some_alone_in_random_order(shared_data, name):
    path = shared_data / "decode" / name
    record = as_record(path)
    expected = digests(path, probe_video(path).rotation // 90)
    assert len(expected) == record.num_frames
    length = max(CLIP, -(-record.num_frames // MOST_CLIPS))
    starts = np.random.default_rng(0).permutation(range(0, record.num_frames, length)).tolist()
    for start in starts[: READ_CLIPS if record.num_frames > MANY_FRAMES else None]:
        frames = range(start, min(start + length, record.num_frames))
        found = [zlib.crc32(frame) for frame in read_frames(record, frames)]
        assert found == expected[start : start + length], f"frames {start} to {frames[-1]}"
    for index in np.random.default_rng(1).integers(0, record.num_frames, SINGLE_FRAMES).tolist():
        assert zlib.crc32(read_frames(record, [index])[0]) == expected[index], index


@pytest.mark.parametrize("name", ["nasa_13013.mp4", LONG, "track-anything_test-sample2_vfr.mp4"])
def test_a_clip_costs_what_lies_between_its_key_frame_and_its_end(shared_data, monkeypatch, name):
    path = shared_data / "decode" / name
    record, decoded = as_record(path), []
    index = decoding.frame_index(str(path))
    numbered = decoding._numbered

    def counted(*arguments):
        for each in numbered(*arguments):
            decoded.append(each[0])
            yield each

    monkeypatch.setattr(decoding, "_numbered", counted)
    for start in np.random.default_rng(1).integers(0, record.num_frames - CLIP, 5).tolist():
        decoded.clear()
        read_frames(record, range(start, start + CLIP), size=(32, 32))
        distance = start - index.first_frame(index.key_place(start))
        assert CLIP <= len(decoded) <= 1.1 * (distance + CLIP), (start, distance)


PEAK = """
import resource, sys
from sam2vt.core.data.frames.video import probe_video
from sam2vt.core.data.frames.reading import iterate_frames
from sam2vt.core.types import VideoRecord
path, stop = sys.argv[1], int(sys.argv[2])
probe = probe_video(path)
size = probe.height, probe.width
record = VideoRecord("v", probe.num_frames, *size, {}, video_path=path, frame_range=(0, stop))
print(sum(1 for _ in iterate_frames(record)), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_the_peak_of_memory_is_that_of_the_first_frames(shared_data):
    peaks = {}
    for stop in (50, 1500):
        command = [sys.executable, "-c", PEAK, str(shared_data / "decode" / LONG), str(stop)]
        run = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
        number, peaks[stop] = map(int, run.stdout.split())
        assert number == stop
    assert peaks[1500] - peaks[50] < 50, f"MiB: {peaks}"
