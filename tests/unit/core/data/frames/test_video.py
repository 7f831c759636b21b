from __future__ import annotations

import os
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.frames import video as decoding
from sam2vt.core.data.frames import video_index
from sam2vt.core.data.frames.reading import iterate_frames, read_frames
from sam2vt.core.data.frames.video import frame_rate, probe_video
from sam2vt.core.data.writing.encoding import write_video
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

# Frames that decode, height and width as displayed.
DECODES = {
    "av1_video.mkv": (125, 360, 640),
    "decord_unordered.mov": (4, 50, 50),
    "discard_first_keyframe.mp4": (25, 64, 64),
    "fire2.mp4": (25, 720, 1280),
    "h265_video.mp4": (10, 128, 128),
    "nasa_13013.mp4": (325, 180, 320),
    "nasa_13013_hdr.mp4": (325, 180, 320),
    "nasa_13013_rotated.mp4": (17, 480, 270),
    "no_duration.webm": (74, 720, 1280),
    "sleap_1500frames_1024.mp4": (1500, 1024, 1024),
    "testsrc2_vp9.webm": (30, 720, 1280),
    "track-anything_test-sample2_vfr.mp4": (149, 320, 568),
}


def as_record(path, frame_range=None) -> VideoRecord:
    probe = probe_video(path)
    return VideoRecord(
        "v",
        probe.num_frames,
        probe.height,
        probe.width,
        {},
        video_path=str(path),
        frame_range=frame_range,
        source=str(path),
    )


def in_order(path, indices) -> dict[int, np.ndarray]:
    """The frames of these indices by decoding the file from its start, not turned."""
    wanted = set(indices)
    with av.open(str(path)) as container:
        frames = enumerate(container.decode(video=0))
        return {
            i: frame.to_ndarray(format="rgb24") for i, frame in islice(frames, max(wanted) + 1) if i in wanted
        }


@pytest.mark.parametrize("name", DECODES)
def test_real_files_equal_decoding_in_order(shared_data, name):
    path = shared_data / "decode" / name
    record = as_record(path)
    assert (record.num_frames, record.height, record.width) == DECODES[name]
    last = min(record.num_frames, 340) - 1  # the longest file has key frames at 250
    rng = np.random.default_rng(0)
    indices = [last, 0, *rng.integers(0, last + 1, 3).tolist(), last // 2, last // 2]
    expected = in_order(path, indices)
    turns = probe_video(path).rotation // 90
    for index, frame in zip(indices, read_frames(record, indices)):
        assert np.array_equal(frame, np.rot90(expected[index], turns)), index
    alone = read_frames(record, [indices[2]])[0]
    assert np.array_equal(alone, np.rot90(expected[indices[2]], turns))


def test_the_frame_rate_that_a_file_states(shared_data):
    names = ("fire2.mp4", "track-anything_test-sample2_vfr.mp4", "av1_video.mkv")
    for name in names:
        path = str(shared_data / "decode" / name)
        expected = cv2.VideoCapture(path).get(cv2.CAP_PROP_FPS)
        assert frame_rate(path) == pytest.approx(expected, rel=0.01), name


def test_the_last_frames_of_a_long_file(shared_data):
    path = shared_data / "decode" / "sleap_1500frames_1024.mp4"
    record = as_record(path)
    read_frames(record, [1499])
    with pytest.raises(DataError, match=r"sleap.*video v has no frame 1500; it has frames 0 to 1499"):
        read_frames(record, [1500])


def test_frames_are_turned_as_players_turn_them(shared_data):
    for name in ("nasa_13013_rotated.mp4", "fire2.mp4"):
        path = shared_data / "decode" / name
        capture = cv2.VideoCapture(str(path))
        _, shown = capture.read()
        capture.release()
        ours = read_frames(as_record(path), [0])[0]
        assert ours.shape == shown.shape
        assert np.abs(ours.astype(int) - shown[..., ::-1]).mean() < 1, name


ENCODINGS = {
    "b_frames.mp4": ("libx264", {"x264-params": "bframes=3:keyint=12"}),
    "open_gop.mp4": ("libx264", {"x264-params": "open-gop=1:bframes=3:keyint=12"}),
    "open_gop.ts": ("libx264", {"x264-params": "open-gop=1:bframes=3:keyint=12"}),
    "open_gop_hevc.mkv": ("libx265", {"x265-params": "open-gop=1:bframes=3:keyint=12:log-level=0"}),
    "times_lost.avi": ("libx264", {"x264-params": "bframes=3:keyint=12"}),
    "no_index.mpg": ("mpeg2video", {"bf": "2", "g": "12"}),
    "hidden_frames.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "12"}),
    "intra.avi": ("mjpeg", {}),
}


def encode(path: Path, codec: str, options: dict[str, str], times=range(50)) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for i, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, 3 * i, axis=1), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_frame_of_every_kind_of_stream(tmp_path, name):
    codec, options = ENCODINGS[name]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no encoder {codec}")
    path = tmp_path / name
    encode(path, codec, options)
    expected = in_order(path, range(50))
    record = as_record(path)
    assert record.num_frames == len(expected) == 50
    for index in np.random.default_rng(1).permutation(50).tolist():
        assert np.array_equal(read_frames(record, [index])[0], expected[index]), index
    together = read_frames(record, [49, 3, 3, 20])
    assert all(np.array_equal(a, expected[i]) for a, i in zip(together, (49, 3, 3, 20)))
    for index, frame in enumerate(iterate_frames(record)):
        assert np.array_equal(frame, expected[index]), index


def test_uneven_times_and_a_late_start(tmp_path):
    path = tmp_path / "uneven.mkv"
    times = np.cumsum(np.random.default_rng(0).integers(1, 9, 50)) + 100
    encode(path, "libx264", {"x264-params": "bframes=2:keyint=10"}, times.tolist())
    expected, record = in_order(path, range(50)), as_record(path)
    assert all(np.array_equal(read_frames(record, [i])[0], expected[i]) for i in (0, 11, 30, 49))


def test_far_frames_are_reached_without_decoding_what_lies_before(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    encode(path, "libx264", {"x264-params": "bframes=2:keyint=10"}, range(200))
    record = as_record(path)
    decoded = []
    numbered = decoding._numbered

    def counted(*arguments):
        for each in numbered(*arguments):
            decoded.append(each[0])
            yield each

    monkeypatch.setattr(decoding, "_numbered", counted)
    read_frames(record, [195, 3])
    assert len(decoded) < 30


def test_a_wrong_index_is_found_out_and_replaced(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    encode(path, "libx264", {"x264-params": "keyint=10"})
    expected = in_order(path, range(50))
    listed = decoding.list_packets

    def wrong(path):
        index, _ = listed(path)
        times = index.times.copy()
        times[20:] += 1
        return decoding.replace(index, times=times), True

    monkeypatch.setattr(decoding, "list_packets", wrong)
    record = as_record(path)
    assert np.array_equal(read_frames(record, [5])[0], expected[5])
    assert np.array_equal(read_frames(record, [30])[0], expected[30])


def test_a_file_that_changes_is_indexed_anew(tmp_path):
    path = tmp_path / "a.mp4"
    encode(path, "mpeg4", {}, range(10))
    assert probe_video(path).num_frames == 10
    encode(path, "mpeg4", {}, range(7))
    os.utime(path, (1, 1))
    assert probe_video(path).num_frames == 7


def test_a_damaged_file_names_the_frame_and_gives_those_before(shared_data):
    path = shared_data / "decode" / "decord_corrupted.mp4"
    record = as_record(path)
    expected = in_order(path, [0, 27])
    assert np.array_equal(read_frames(record, [27])[0], expected[27])
    with pytest.raises(DataError, match=r"decord_corrupted\.mp4: frame 28 cannot be decoded: .*damaged"):
        read_frames(record, [40])
    frames = iterate_frames(record)
    assert sum(1 for _ in islice(frames, 28)) == 28
    with pytest.raises(DataError, match="frame 28 cannot be decoded"):
        next(frames)


def test_a_file_that_ends_early_says_so(tmp_path):
    path = tmp_path / "a.mp4"
    encode(path, "mpeg4", {}, range(10))
    record = as_record(path)
    encode(path, "mpeg4", {}, range(7))
    os.utime(path, (1, 1))
    with pytest.raises(DataError, match=r"a\.mp4: frame 9 does not decode: the file has 7 frames \(0 to 6\)"):
        read_frames(record, [9])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mp4parse_audio_only_opus.mp4", "has no video stream; it holds audio"),
        ("mp4parse_chunk_out_of_range.mp4", "cannot be opened as a video: Invalid data"),
        ("missing.mp4", "cannot be read: No such file or directory; restore it"),
    ],
)
def test_what_is_no_video(shared_data, name, message):
    with pytest.raises(DataError, match=f"{name}: .*{message}"):
        probe_video(shared_data / "decode" / name)


def test_the_same_frames_from_file_and_folder(shared_data):
    folder = shared_data / "pumavos_chair"
    paths = tuple(str(path) for path in sorted((folder / "JPEGImages").glob("*.jpg")))
    images = VideoRecord("v", 60, 480, 720, {}, frame_paths=paths, source="v")
    video = as_record(folder / "chair.mp4")
    indices = [0, 31, 59]
    difference = read_frames(images, indices).astype(int) - read_frames(video, indices)
    assert np.abs(difference).mean(axis=(1, 2, 3)).max() < 6
    shifted = read_frames(images, [0, 30, 58]).astype(int) - read_frames(video, indices)
    assert np.abs(shifted[1:]).mean() > np.abs(difference[1:]).mean()


def test_image_folders_are_read_as_they_are(shared_data):
    paths = sorted((shared_data / "davis17_bmx-trees/JPEGImages/bmx-trees").glob("*.jpg"))
    record = VideoRecord("v", 40, 480, 854, {}, frame_paths=tuple(map(str, paths)), frame_range=(30, 33))
    frames = read_frames(record, [39, 5])
    for frame, index in zip(frames, (39, 5)):
        with Image.open(paths[index]) as image:
            assert np.array_equal(frame, np.asarray(image))
    assert [frame.shape for frame in iterate_frames(record)] == [(480, 854, 3)] * 3


def test_iterating_keeps_to_the_frames_that_may_be_used(shared_data):
    path = shared_data / "decode" / "nasa_13013.mp4"
    record = as_record(path, frame_range=(255, 259))
    expected = in_order(path, range(255, 259))
    frames = list(iterate_frames(record))
    assert len(frames) == 4
    assert all(np.array_equal(frame, expected[255 + i]) for i, frame in enumerate(frames))


def test_resizing(shared_data):
    record = as_record(shared_data / "pumavos_chair" / "chair.mp4")
    full = read_frames(record, [7])[0]
    small, large = read_frames(record, [7], size=(96, 80))[0], read_frames(record, [7], size=(500, 900))[0]
    assert np.array_equal(small, cv2.resize(full, (80, 96), interpolation=cv2.INTER_AREA))
    assert np.array_equal(large, cv2.resize(full, (900, 500), interpolation=cv2.INTER_LINEAR))
    assert next(iterate_frames(record, size=(96, 80))).shape == (96, 80, 3)
    assert read_frames(record, []).shape == (0, 480, 720, 3)


def test_memory_does_not_grow_with_the_video(shared_data):
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("the memory of a process is read from /proc")
    record = as_record(shared_data / "decode" / "sleap_1500frames_1024.mp4", frame_range=(0, 400))
    megabytes = []
    for i, _ in enumerate(iterate_frames(record)):
        if i % 20 == 0:
            pages = int(statm.read_text().split()[1])
            megabytes.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
    # 400 frames are 1200 MB.
    assert max(megabytes[2:]) - megabytes[2] < 60


def test_frames_of_other_sizes_are_named(tmp_path):
    paths = []
    for i, width in enumerate((32, 32, 30)):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.new("RGB", (width, 24)).save(paths[-1])
    record = VideoRecord("v", 3, 24, 32, {}, frame_paths=tuple(paths))
    with pytest.raises(DataError, match=r"2\.png: frame 2 is 30x24 .*the video v is 32x24"):
        read_frames(record, [0, 2])


@pytest.mark.parametrize("height", [47, 48])
def test_written_videos_are_read_back(tmp_path, height):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (20, 6, 8, 3), dtype=np.uint8)
    frames = [cv2.resize(each, (64, height), interpolation=cv2.INTER_CUBIC) for each in small]
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, frames, fps=12)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    record = as_record(tmp_path / "a.mp4")
    assert (record.num_frames, record.height, record.width) == (20, 48, 64)
    read = read_frames(record, range(20))[:, :height].astype(int)
    assert np.abs(read - np.stack(frames)).mean() < 8
    with pytest.raises(DataError, match="at least one frame"):
        write_video(tmp_path / "c.mp4", [], fps=12)


def write_streams(path, streams):
    """Streams of (codec, number of frames); all frames of a stream have a gray value of its own."""
    with av.open(str(path), "w") as container:
        added = []
        for codec, number in streams:
            stream = container.add_stream(codec, rate=25 if number > 1 else 1)
            pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
            added.append(stream)
        for place, (stream, (_, number)) in enumerate(zip(added, streams)):
            for t in range(number):
                pixels = np.full((48, 64, 3), 200 - 60 * place, np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=stream.pix_fmt)
                frame.pts = t
                container.mux(stream.encode(frame))
            container.mux(stream.encode())


@pytest.mark.parametrize(
    ("name", "still"),
    [("a.mp4", "mjpeg"), ("a.mkv", "mjpeg"), ("a.avi", "mjpeg"), ("a.asf", "mjpeg"), ("a.ts", "mpeg2video")],
)
def test_a_picture_before_the_video_is_passed_over(tmp_path, name, still):
    path = tmp_path / name
    write_streams(path, [(still, 1), ("libx264", 8)])
    assert (probe_video(path).num_frames, probe_video(path).codec) == (8, "h264")
    assert abs(int(read_frames(as_record(path), [7]).mean()) - 140) < 5


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_the_first_of_several_films_is_the_video(tmp_path, name):
    path = tmp_path / name
    write_streams(path, [("mjpeg", 1), ("mpeg4", 3), ("libx264", 8)])
    assert (probe_video(path).num_frames, probe_video(path).codec) == (3, "mpeg4")
    write_streams(path, [("mjpeg", 1), ("mjpeg", 1)])
    assert probe_video(path).num_frames == 1


def test_streams_are_not_counted_for_each_clip(tmp_path, monkeypatch):
    path = tmp_path / "a.mkv"
    write_streams(path, [("mjpeg", 1), ("libx264", 8)])
    opened = []
    open_file = video_index.av.open
    monkeypatch.setattr(
        video_index.av, "open", lambda *given, **how: opened.append(1) or open_file(*given, **how)
    )
    record = as_record(path)
    opened.clear()
    read_frames(record, [0])
    assert len(opened) == 1
