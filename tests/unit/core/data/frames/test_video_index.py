"""What is opened as a video, and what is refused before it costs anything."""

from __future__ import annotations

import shutil
import subprocess
import sys

import av
import numpy as np
import pytest

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.frames.images import MAX_PIXELS
from sam2vt.core.data.frames.video import probe_video
from sam2vt.core.data.frames.video_index import FrameIndex, open_video
from sam2vt.core.data.writing.encoding import write_video
from sam2vt.errors import DataError

LISTS = {
    "concat": "ffconcat version 1.0\nfile secret.mp4\n",
    "playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:5.0,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "remote playlist": "#EXTM3U\n#EXTINF:5.0,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    "manifest": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>',
    "session": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
}


@pytest.mark.parametrize("ending", ["mp4", "ts"])
@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_files_is_no_video(tmp_path, kind, ending):
    """FFmpeg would follow it out of the dataset, or into the network."""
    write_video(tmp_path / "secret.mp4", [np.zeros((16, 16, 3), np.uint8)] * 3, fps=5)
    path = tmp_path / f"list.{ending}"
    path.write_text(LISTS[kind])
    with pytest.raises(DataError, match=rf"list\.{ending}: cannot be opened as a video.*not lists of files"):
        probe_video(path)


def test_a_file_without_video(shared_data):
    path = str(shared_data / "decode" / "mp4parse_audio_only_opus.mp4")
    with pytest.raises(DataError, match="no video stream; it holds audio"), open_video(path):
        pass


def write_large(path, side: int) -> None:
    """One black frame, side x side, in a small file."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = side, side, "yuvj420p"
        frame = av.VideoFrame(side, side, "yuvj420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


REFUSED = """
import resource, sys
from sam2vt.core.data.frames.video import probe_video
from sam2vt.errors import DataError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    probe_video(sys.argv[1])
except DataError as error:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, error)
"""


def test_a_frame_larger_than_allowed_is_never_allocated(tmp_path):
    side = int(MAX_PIXELS**0.5) + 100
    write_large(tmp_path / "large.mkv", side)
    command = [sys.executable, "-c", REFUSED, str(tmp_path / "large.mkv")]
    megabytes, message = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split(
        " ", 1
    )
    assert f"more than the {MAX_PIXELS} pixels" in message
    assert "large.mkv" in message
    assert int(megabytes) < 20  # the frame would take 200


def test_a_video_that_grows(tmp_path, monkeypatch):
    """Later frames are held to the cap as well, whatever the header says."""
    for name, side in (("small.mpg", 64), ("large.mpg", 512)):
        with av.open(str(tmp_path / name), "w", format="mpeg") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
            for _ in range(3):
                container.mux(stream.encode(av.VideoFrame(side, side, "yuv420p")))
            container.mux(stream.encode(None))
    path = tmp_path / "grows.mpg"
    path.write_bytes((tmp_path / "small.mpg").read_bytes() + (tmp_path / "large.mpg").read_bytes())
    cap = {"max_pixels": str(128 * 128)}
    monkeypatch.setattr("sam2vt.core.data.frames.video_index.CAP", cap)
    with pytest.raises(DataError, match=r"grows\.mpg: frame \d+ cannot be decoded"):
        probe_video(path)


def test_the_dataset_names_the_file(tmp_path, shared_data):
    source = shared_data / "davis17_schoolgirls_mp4"
    shutil.copytree(source, tmp_path / "data", copy_function=shutil.copyfile)
    (video,) = (tmp_path / "data").rglob("*.mp4")
    video.chmod(0o644)
    video.write_text(LISTS["concat"])
    with pytest.raises(DataError, match=rf"{video.name}.*not lists of files"):
        load_records("auto", str(tmp_path / "data"))


def index(times, keys):
    keys = np.array(keys, dtype=np.int64)
    return FrameIndex(len(times), np.array(times, dtype=np.int64), keys, keys - 2)


@pytest.mark.parametrize(("frame", "key"), [(0, 0), (2, 0), (3, 1), (5, 1), (6, 2), (8, 2)])
def test_a_frame_is_decoded_from_the_key_frame_at_or_before_it(frame, key):
    assert index(range(0, 90, 10), [0, 30, 60]).key_place(frame) == key


def test_the_first_complete_frame_of_a_key_frame():
    found = index([5, 10, 20, 30, 45], [5, 20, 45])
    assert [found.first_frame(key) for key in range(3)] == [0, 2, 4]


def test_discarded_key_frames_lie_before_the_first_frame():
    found = index([0, 10, 20], [-30, -10, 10])
    assert [found.key_place(i) for i in range(3)] == [1, 2, 2]
    assert [found.first_frame(key) for key in range(3)] == [0, 0, 1]


def test_without_times_everything_is_read_from_the_start():
    found = FrameIndex(9, None, np.array([0, 30]), np.array([0, 30]))
    assert (found.key_place(8), found.first_frame(1)) == (0, 0)


def test_only_known_key_frames_up_to_the_wanted_one_are_found():
    found = index(range(0, 90, 10), [0, 30, 60])
    assert [found.key_of(time, 1) for time in (30, 60, 0, 35, None)] == [1, None, None, None, None]
