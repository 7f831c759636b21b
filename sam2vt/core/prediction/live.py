"""Read live sources: a pipe, a camera, a network stream. Frames come once, in order, in unknown number."""

from __future__ import annotations

import logging
import os
import re
import select
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from sam2vt.core.data.frames.images import resize_frame
from sam2vt.core.data.frames.video import upright
from sam2vt.core.data.frames.video_index import CAP, CONTAINERS, video_stream
from sam2vt.core.prediction.source import Frame, Source
from sam2vt.errors import DataError

log = logging.getLogger(__name__)

PIPE = "-"
_SECONDS = 10.0  # without a frame, after which a network stream counts as lost
# By sys.platform: FFmpeg's name of its cameras, and how one of a number is called there.
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}
_MPEGTS = "ffmpeg -i IN.mp4 -c copy -f mpegts - | sam2vt predict CHECKPOINT -"


class _Kind(NamedTuple):
    """A kind of live source."""

    what: str
    begins: str  # a pattern of the SOURCEs that are of this kind
    open: Callable[[str], tuple[Any, Callable[[], None]]]  # SOURCE -> container, what wakes up its reader
    remedy: str
    is_lossy: bool  # damaged frames are usual there, and left out


class LiveSource(Source):
    """A source that is read once, in order; its size is that of its first frame."""

    is_live = True
    record = None
    num_frames = None

    def __init__(self, source: str, kind: _Kind) -> None:
        self.where = _without_password(source)
        self.video_id = _name(self.where, kind)
        self.kind, self._source = kind, source
        self._container: Any = None
        self._wake: Callable[[], None] = lambda: None
        self._coming: Iterator[Frame] | None = None
        self._size: tuple[int, int] | None = None

    @property
    def has_masks(self) -> bool:
        """Return False: live sources have no masks."""
        return False

    @property
    def height(self) -> int:
        """Of its frames, in pixels."""
        return self._opened()[0]

    @property
    def width(self) -> int:
        """Of its frames, in pixels."""
        return self._opened()[1]

    @property
    def fps(self) -> float | None:
        """Mean number of frames per second; None if the stream does not state it."""
        self._opened()
        return self._fps

    def frame_name(self, index: int) -> str:
        """Return the frame's index in five digits."""
        return f"{index:05d}"

    def frames(
        self,
        start: int = 0,
        size: tuple[int, int] | None = None,
        as_stock: bool = False,
        with_passed: bool = False,
    ) -> Iterator[Frame]:
        """Yield (index, frame) as they come; in a pipe, frames before `start` are skipped.

        Raises DataError if they were read before, or if the frames before `start` are gone.
        """
        self._opened()
        if self._coming is None:
            raise DataError(f"{self.where}: {self.kind.what} is read once, and has been; open it again")
        if start and self.kind.is_lossy:
            raise DataError(
                f"{self.where}: {self.kind.what} cannot continue at frame {start}: what it showed since is "
                "gone; begin anew, in another folder"
            )
        coming, self._coming = self._coming, None
        for index, frame in coming:
            if index >= start or with_passed:
                yield index, frame if size is None else resize_frame(frame, size, as_stock)

    def frame_at(self, index: int) -> np.ndarray:
        """Raise DataError: live frames are not kept."""
        raise DataError(f"{self.where}: {self.kind.what} cannot be asked for its frame {index}", frame=index)

    def interrupt(self) -> None:
        """Wake up a thread that waits for the next frame; a camera or stream ends the wait itself."""
        self._wake()

    def close(self) -> None:
        """Release the pipe, camera or stream; no frame may be requested meanwhile."""
        if self._container is not None:
            self._wake()
            self._container.close()
            self._container = self._coming = None

    def _opened(self) -> tuple[int, int]:
        """Return (height, width), which the first frame tells."""
        if self._size is None:
            try:
                self._container, self._wake = self.kind.open(self._source)
            except (av.FFmpegError, OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                raise DataError(
                    f"{self.where}: cannot be opened as {self.kind.what}: {reason}; {self.kind.remedy}"
                ) from None
            stream = video_stream(self._container, self.where)
            rate = stream.average_rate or stream.guessed_rate
            self._fps = float(rate) if rate else None
            coming = self._decode(stream)
            first = next(coming, None)
            if first is None:
                raise DataError(f"{self.where}: {self.kind.what} ended without a frame; {self.kind.remedy}")
            self._size = first[1].shape[0], first[1].shape[1]
            self._coming = chain([first], coming)
        return self._size

    def _decode(self, stream: Any) -> Iterator[Frame]:
        converter = VideoReformatter()
        index = num_damaged = 0
        for packet in self._packets(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                num_damaged = self._damaged(index, num_damaged, str(error.strerror))
                continue
            for frame in frames:
                if frame.is_corrupt:
                    num_damaged = self._damaged(index, num_damaged, "the decoder marks it as corrupt")
                    continue
                pixels = upright(frame, converter, self.where, index)
                self._check_size(index, pixels)
                yield index, pixels
                index += 1
        if num_damaged:
            log.warning("%s: %d damaged frames were left out", self.where, num_damaged)

    def _packets(self, stream: Any) -> Iterator[Any]:
        try:
            yield from self._container.demux(stream)
        except av.FFmpegError as error:
            raise DataError(
                f"{self.where}: {self.kind.what} broke off: {error.strerror}; {self.kind.remedy}"
            ) from None

    def _damaged(self, index: int, before: int, reason: str) -> int:
        """Return how many damaged frames there were, or raise DataError if none is allowed."""
        text = f"{self.where}: frame {index} cannot be decoded: {reason}"
        if not self.kind.is_lossy:
            raise DataError(f"{text}; what is piped in is damaged: re-encode it", frame=index)
        if not before:
            log.warning("%s; damaged frames are left out", text)
        return before + 1

    def _check_size(self, index: int, pixels: np.ndarray) -> None:
        size = pixels.shape[0], pixels.shape[1]
        if self._size is not None and size != self._size:
            (height, width), (first_height, first_width) = size, self._size
            raise DataError(
                f"{self.where}: frame {index} is {width}x{height} (width x height), the frames before it are "
                f"{first_width}x{first_height}; all frames must have one size: begin anew from here",
                frame=index,
            )


class _Pipe:
    """The bytes of a pipe, which end when `wake` is called; FFmpeg alone would wait for more."""

    def __init__(self, descriptor: int, is_own: bool) -> None:
        self._descriptor = descriptor
        self._told, self._tell = os.pipe()
        self._own = [self._told, self._tell, *([descriptor] if is_own else [])]

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes as soon as there are some; no bytes mean the end."""
        ready, _, _ = select.select([self._descriptor, self._told], [], [])
        return b"" if self._told in ready else os.read(self._descriptor, size)

    def wake(self) -> None:
        """End the wait; may be called from any thread."""
        os.write(self._tell, b".")

    def __del__(self) -> None:
        for each in self._own:
            os.close(each)


def live_source(source: str) -> LiveSource | None:
    """Return the live source that SOURCE names; None if it names something stored.

    Nothing is opened yet. Raises DataError if the pipe is a terminal.
    """
    kind = next((each for each in KINDS if re.match(each.begins, source)), None)
    if kind is None and _is_pipe(source):
        kind = KINDS[0]
    if kind is not None and source == PIPE and (sys.stdin is None or sys.stdin.isatty()):
        raise DataError(f"-: nothing is piped in; {kind.remedy}")
    return None if kind is None else LiveSource(source, kind)


def _is_pipe(path: str) -> bool:
    """Return whether a path is a named pipe, as of a shell's <(...)."""
    with suppress(OSError, ValueError):
        return stat.S_ISFIFO(os.stat(path).st_mode)
    return False


def _open_pipe(source: str) -> tuple[Any, Callable[[], None]]:
    descriptor = sys.stdin.fileno() if source == PIPE else os.open(source, os.O_RDONLY)
    options = {"format_whitelist": f"{CONTAINERS},yuv4mpegpipe,nut,mjpeg", **CAP}
    if stat.S_ISREG(os.fstat(descriptor).st_mode):  # < FILE, in which FFmpeg may seek
        return av.open(sys.stdin.buffer, options=options), lambda: None
    pipe = _Pipe(descriptor, is_own=source != PIPE)
    return av.open(pipe, options=options), pipe.wake


def _open_camera(source: str) -> tuple[Any, Callable[[], None]]:
    if sys.platform not in _CAMERAS:
        raise OSError(f"cameras are not opened on {sys.platform}")
    driver, path = _CAMERAS[sys.platform]
    number = source.removeprefix("camera:")
    device = number if number.startswith("/") else path.format(number)
    return av.open(device, format=driver, options=dict(CAP)), lambda: None


def _open_stream(source: str) -> tuple[Any, Callable[[], None]]:
    # Over UDP single packets are lost, and with them all frames up to the next key frame.
    options = {"rtsp_transport": "tcp", "protocol_whitelist": "rtsp,rtp,udp,tcp,tls", **CAP}
    return av.open(source, format="rtsp", options=options, timeout=_SECONDS), lambda: None


def _without_password(source: str) -> str:
    """Return SOURCE without a user's name and password, which belong into no log."""
    return re.sub(r"^(\w+://)[^/@]*@", r"\1", source)


def _name(where: str, kind: _Kind) -> str:
    """Return a video id, such as camera_0 or stream_host_path."""
    parts = urlsplit(where)
    own = f"{parts.hostname or ''}{parts.path}" if parts.netloc else where.removeprefix("camera:")
    own = re.sub(r"[^A-Za-z0-9.]+", "_", os.path.basename(own) if own.startswith("/") else own).strip("_.")
    return f"{kind.what.split()[-1]}_{own}".rstrip("_")


# The first that SOURCE matches; a path that is a named pipe is of the first kind.
KINDS = (
    _Kind("a pipe", r"-$", _open_pipe, f"pipe a video in that needs no seeking: {_MPEGTS}", False),
    _Kind(
        "a camera",
        r"camera:\d+$|/dev/video\d+$",
        _open_camera,
        "allowed are camera:0 (the first), camera:1, ... and devices such as /dev/video0; check that it is "
        "plugged in, that no other program has it, and that your user may read it",
        True,
    ),
    _Kind(
        "a stream",
        r"rtsp://",
        _open_stream,
        "check the address, and that a player such as ffplay shows it",
        True,
    ),
)
