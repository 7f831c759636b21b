"""Frames of a pipe, a camera and a stream, as they come."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import av
import pytest

from sam2vt.config import DatasetConfig
from sam2vt.core.prediction import live
from sam2vt.core.prediction.ahead import ahead
from sam2vt.core.prediction.sources import open_sources
from sam2vt.errors import ConfigError, DataError

from .conftest import HEIGHT, WIDTH, in_step, indices_of


class Stdin:
    """What `sys.stdin` is where a program's output is piped in."""

    def __init__(self, descriptor: int) -> None:
        self.buffer = os.fdopen(descriptor, "rb", buffering=0)
        self.fileno, self.isatty = self.buffer.fileno, self.buffer.isatty


@pytest.fixture
def pipe_in(monkeypatch) -> Iterator[Callable[..., None]]:
    """Write bytes to the process's standard input from a thread; `held`: more could follow."""
    ends: list[Any] = []

    def write(sink: Any, content: bytes, held: bool) -> None:
        sink.write(content)
        if not held:
            sink.close()

    def pipe(content: bytes, held: bool = False) -> None:
        source, sink = os.pipe()
        monkeypatch.setattr(sys, "stdin", Stdin(source))
        file = os.fdopen(sink, "wb", buffering=0)
        thread = Thread(target=write, args=(file, content, held))
        thread.start()
        ends.append((thread, file))

    yield pipe
    for thread, file in ends:
        thread.join(10)
        file.close()


@pytest.mark.parametrize("container", ["mpegts", "matroska", "mp4", "yuv4mpegpipe", "nut"])
def test_a_pipe(tmp_path, video, pipe_in, caplog, container) -> None:
    codec = "rawvideo" if container == "yuv4mpegpipe" else "libx264"
    pipe_in(video(tmp_path / "a", container=container, codec=codec).read_bytes())
    with caplog.at_level(logging.INFO):
        (source,) = open_sources("-")
    assert "-: recognised as a pipe" in caplog.text
    with source:
        assert (source.is_live, source.record, source.num_frames) == (True, None, None)
        assert (source.height, source.width, source.fps) == (HEIGHT, WIDTH, 10)
        assert (source.video_id, source.has_masks, source.frame_name(7)) == ("pipe", False, "00007")
        assert indices_of(list(source.frames())) == in_step(range(6))
        with pytest.raises(DataError, match="a pipe is read once, and has been"):
            list(source.frames())
        with pytest.raises(DataError, match="cannot be asked for its frame 0"):
            source.frame_at(0)


def test_a_pipe_from_a_later_frame_on(tmp_path, video, pipe_in) -> None:
    pipe_in(video(tmp_path / "a.ts").read_bytes())
    (source,) = open_sources("-")
    assert source.height == HEIGHT
    found = list(source.frames(4, (24, 24)))
    assert indices_of(found) == in_step(range(4, 6))
    assert found[0][1].shape == (24, 24, 3)
    source.close()


def test_a_file_as_standard_input(tmp_path, video, monkeypatch) -> None:
    path = video(tmp_path / "a.mp4")
    with path.open("rb", buffering=0) as file:
        monkeypatch.setattr(sys, "stdin", Stdin(os.dup(file.fileno())))
        (source,) = open_sources("-")
        with source:
            assert indices_of(list(source.frames())) == in_step(range(6))


def test_a_named_pipe(tmp_path, video) -> None:
    content = video(tmp_path / "a.ts").read_bytes()
    os.mkfifo(tmp_path / "fifo")
    thread = Thread(target=(tmp_path / "fifo").write_bytes, args=(content,))
    thread.start()
    (source,) = open_sources(str(tmp_path / "fifo"))
    with source:
        assert indices_of(list(source.frames())) == in_step(range(6))
    thread.join(10)
    assert source.video_id == "pipe_fifo"


def test_a_pipe_that_waits_ends_when_nobody_wants_more(tmp_path, video, pipe_in) -> None:
    pipe_in(video(tmp_path / "a.ts", 60).read_bytes(), held=True)
    (source,) = open_sources("-")
    with source:
        taken = ahead(source.frames(), 100, source.interrupt)
        assert next(taken)[0] == 0
        taken.close()  # its thread waits for bytes that do not come


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda path: b"", "-: cannot be opened as a pipe: .*ffmpeg -i IN.mp4"),
        (lambda path: b"text " * 1000, "-: cannot be opened as a pipe: .*mpegts"),
        (lambda path: b"#EXTM3U\n#EXTINF:1,\nhttp://localhost/x.ts\n", "-: cannot be opened as a pipe"),
        (lambda path: path.read_bytes()[:1500], "-: "),
    ],
)
def test_bad_pipes(tmp_path, video, pipe_in, content, says) -> None:
    pipe_in(content(video(tmp_path / "a.mp4")))
    (source,) = open_sources("-")
    with source, pytest.raises(DataError, match=says):
        source.height  # noqa: B018


def test_a_pipe_whose_frames_change_their_size(tmp_path, video, pipe_in) -> None:
    small, large = (video(tmp_path / f"{side}.ts", 3, size=(side, side)) for side in (64, 96))
    pipe_in(small.read_bytes() + large.read_bytes())
    (source,) = open_sources("-")
    found = []
    with source, pytest.raises(DataError, match="frame 3 is 96x96 .* before it are 64x64.*begin anew"):
        found.extend(index for index, _ in source.frames())
    source.close()


@pytest.mark.parametrize("stdin", [None, open(os.devnull)])  # noqa: SIM115
def test_nothing_is_piped_in(monkeypatch, stdin) -> None:
    if stdin is not None:
        monkeypatch.setattr(stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(DataError, match="-: nothing is piped in; pipe a video in"):
        open_sources("-")


@pytest.fixture
def played(tmp_path, video, monkeypatch) -> list[tuple[str, dict[str, Any]]]:
    """Has each camera and stream show a file; what was asked of FFmpeg is returned."""
    path, asked, real = str(video(tmp_path / "shown.mkv")), [], av.open

    def opened(name: str, **how: Any) -> Any:
        asked.append((name, how))
        return real(path)

    monkeypatch.setattr(live.av, "open", opened)
    return asked


@pytest.mark.parametrize(
    ("name", "platform", "device", "driver", "video_id"),
    [
        ("camera:0", "linux", "/dev/video0", "v4l2", "camera_0"),
        ("camera:2", "darwin", "2", "avfoundation", "camera_2"),
        ("/dev/video1", "linux", "/dev/video1", "v4l2", "camera_video1"),
        ("rtsp://me:secret@host:554/a b/live", "linux", None, "rtsp", "stream_host_a_b_live"),
    ],
)
def test_cameras_and_streams(played, monkeypatch, caplog, name, platform, device, driver, video_id) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with caplog.at_level(logging.INFO):
        (source,) = open_sources(name)
    assert played == []  # nothing is opened before it is needed
    with source:
        assert (source.video_id, source.is_live, source.fps) == (video_id, True, 10)
        assert indices_of(list(source.frames())) == in_step(range(6))
    ((asked, how),) = played
    assert (asked, how["format"]) == (device or name, driver)
    assert "secret" not in caplog.text + source.where + source.video_id


def test_a_camera_cannot_go_back(played) -> None:
    (source,) = open_sources("camera:0")
    with source, pytest.raises(DataError, match="camera:0: a camera cannot continue at frame 3"):
        list(source.frames(3))


class Packet:
    def __init__(self, packet: Any, fails: bool) -> None:
        self._packet, self._fails = packet, fails

    def decode(self) -> Any:
        if self._fails:
            raise av.error.InvalidDataError(1, "Invalid data found")
        return self._packet.decode()


def test_damaged_frames_of_a_camera_are_left_out(tmp_path, video, monkeypatch, caplog) -> None:
    path = video(tmp_path / "shown.nut", codec="rawvideo")  # each frame by itself
    real = live.LiveSource._packets

    def packets(self: Any, stream: Any) -> Iterator[Any]:
        return (Packet(each, place in (2, 3)) for place, each in enumerate(real(self, stream)))

    monkeypatch.setattr(live.LiveSource, "_packets", packets)
    opened = av.open(str(path))
    monkeypatch.setattr(live.av, "open", lambda *_, **__: opened)
    (source,) = open_sources("camera:0")
    with source:
        found = indices_of(list(source.frames()))
    assert found == [(0, 0), (1, 1), (2, 4), (3, 5)]
    assert (
        "camera:0: frame 2 cannot be decoded: Invalid data found; damaged frames are left out" in caplog.text
    )
    assert "2 damaged frames were left out" in caplog.text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("camera:99", "camera:99: cannot be opened as a camera: No such file.*allowed are camera:0"),
        ("/dev/video98", "/dev/video98: cannot be opened as a camera"),
        (
            "rtsp://me:secret@127.0.0.1:9/x",
            "rtsp://127.0.0.1:9/x: cannot be opened as a stream: Connection refused",
        ),
    ],
)
def test_cameras_and_streams_that_are_not_there(name: str, says: str) -> None:
    (source,) = open_sources(name)
    with source, pytest.raises(DataError, match=says):
        source.height  # noqa: B018


def test_a_camera_where_none_is_opened(monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    (source,) = open_sources("camera:0")
    with source, pytest.raises(DataError, match="cameras are not opened on win32"):
        source.height  # noqa: B018


def test_settings_of_datasets_mean_nothing_to_a_camera() -> None:
    with pytest.raises(ConfigError, match="identity=iou: means nothing to a camera"):
        open_sources("camera:0", DatasetConfig(identity="iou"))


def test_a_file_that_is_named_as_a_camera_is_a_file(tmp_path: Path, video, monkeypatch) -> None:
    video(tmp_path / "camera:x.mp4", 2)
    monkeypatch.chdir(tmp_path)
    (source,) = open_sources("camera:x.mp4")
    assert source.video_id == "camera:x"
