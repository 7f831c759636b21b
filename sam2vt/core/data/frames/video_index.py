"""Open video files safely, and index their frames by their packets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import av
import numpy as np

from sam2vt.core.data.frames.images import MAX_PIXELS
from sam2vt.core.data.packed.reader import PackedFile
from sam2vt.errors import DataError

VideoSource = str | PackedFile  # a path, or a video file in the rows of shards

# Codecs that may send a frame which is never shown as a packet of its own.
_HIDDEN_FRAME_CODECS = {"vp8"}
# FFmpeg also knows lists of other files, whatever their name ends with.
CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,h264,hevc,m4v,ivf"
CAP = {"max_pixels": str(MAX_PIXELS)}  # FFmpeg refuses larger frames before it allocates one
_OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", **CAP}


@contextmanager
def open_video(path: VideoSource) -> Iterator[tuple[Any, Any]]:
    """Open a container and its video stream, decoding in one thread. Raises DataError for no video."""
    with _open(path) as container:
        yield container, video_stream(container, path, path)


def _open(path: VideoSource) -> Any:
    try:
        return av.open(path if isinstance(path, str) else path.open(), options=_OPTIONS)
    except (av.FFmpegError, OSError) as error:
        is_empty = isinstance(path, str) and os.path.isfile(path) and os.path.getsize(path) == 0
        raise DataError(
            f"{path}: cannot be opened as a video: {'the file is empty' if is_empty else error.strerror}; "
            f"allowed are single videos, not lists of files, in the containers {CONTAINERS}"
        ) from None


def video_stream(container: Any, where: object, source: VideoSource | None = None) -> Any:
    """Return the video stream of an open container, set to decode in one thread.

    `source` is read a second time if its header does not tell which stream is the film. Raises DataError,
    which begins with `where`, for no video, and for one that cannot be decoded.
    """
    # Cover pictures are video streams, too.
    pictures = av.stream.Disposition.attached_pic
    streams = [each for each in container.streams.video if not each.disposition & pictures]
    if not streams:
        kinds = ", ".join(sorted({str(each.type) for each in container.streams})) or "nothing"
        raise DataError(f"{where}: the file has no video stream; it holds {kinds}")
    stream = _first_of_frames(streams, source)
    codec = stream.codec_context
    if codec is None:
        raise DataError(
            f"{where}: there is no decoder for the codec of its video; re-encode it, such as by "
            "ffmpeg -i IN -c:v libx264 OUT.mp4"
        )
    if not codec.width or not codec.height:
        raise DataError(
            f"{where}: the file does not tell how large its frames are, or they have more than the "
            f"{MAX_PIXELS} pixels that are allowed: scale the video down or re-encode it"
        )
    # More threads per file would compete with the workers, and hold more frames each.
    codec.thread_count, codec.options = 1, {**codec.options, **CAP}
    return stream


def _first_of_frames(streams: list[Any], source: VideoSource | None) -> Any:
    """Return the first stream of several frames: a preview picture may come before the video, unmarked."""
    several = [each for each in streams if each.frames != 1] or streams
    # Some containers state 0 frames, and AVI rounds the one of a slow picture up.
    if len(several) == 1 or several[0].frames > 2 or source is None:
        return several[0]
    status = os.stat(source) if isinstance(source, str) else None
    state = (status.st_mtime_ns, status.st_size) if status else ()
    index = _first_of_packets(source, tuple(each.index for each in several), *state)
    return next(each for each in several if each.index == index)


# Such a file is opened for every clip, and read to its end where a preview comes first.
@lru_cache(maxsize=1024)
def _first_of_packets(source: VideoSource, indices: tuple[int, ...], *_: int) -> int:
    """Return the first of these streams with several packets; the first one if none has."""
    counts = dict.fromkeys(indices, 0)
    with _open(source) as container, suppress(av.FFmpegError):  # decoding will tell what is damaged
        for packet in container.demux([container.streams[each] for each in indices]):
            counts[packet.stream.index] += packet.size > 0
            if counts[indices[0]] > 1:
                break
    return next((each for each, count in counts.items() if count > 1), indices[0])


@dataclass(frozen=True)
class FrameIndex:
    """Presentation times of the F frames, in order, and of the K key frames, with where to seek.

    `times` is None if times do not distinguish frames: frames are then counted from the start.
    """

    num_frames: int
    times: np.ndarray | None  # int64 [F], strictly rising, in the stream's time base
    key_times: np.ndarray  # int64 [K], rising
    key_seeks: np.ndarray  # int64 [K], decoding times: containers are searched by them
    exact: bool = False  # times are those of decoded frames, not of packets

    def to_row(self) -> dict[str, Any]:
        """Return the index as plain numbers, for a shard."""
        fields = vars(self).items()
        return {name: each.tolist() if isinstance(each, np.ndarray) else each for name, each in fields}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> FrameIndex:
        """Return the index of what `to_row` returned."""
        lists = {name: each for name, each in row.items() if isinstance(each, list)}
        return cls(**{**row, **{name: np.array(each, dtype=np.int64) for name, each in lists.items()}})

    def key_place(self, target: int) -> int:
        """Return the key frame from which to decode frame `target`; 0 means the start of the file."""
        if self.times is None:
            return 0
        return max(0, int(np.searchsorted(self.key_times, self.times[target], side="right")) - 1)

    def first_frame(self, key: int) -> int:
        """Return the first frame that is complete when decoding begins at this key frame."""
        if self.times is None or key == 0:
            return 0
        return int(np.searchsorted(self.times, self.key_times[key]))

    def key_of(self, time: int | None, last: int) -> int | None:
        """Return which of the key frames 1 to `last` has this time; None if none has."""
        return next((key for key in range(last, 0, -1) if self.key_times[key] == time), None)


def list_packets(path: VideoSource) -> tuple[FrameIndex, bool]:
    """Return the index that the packets announce, and whether each surely gives one frame."""
    times: list[int] = []
    keys: list[tuple[int, int]] = []
    num_packets, odd = 0, False
    with open_video(path) as (container, stream):
        announced, codec = stream.frames, stream.codec_context.name
        try:
            for packet in container.demux(stream):
                if packet.size == 0 and packet.pts is None and packet.dts is None:
                    continue  # the end of the file
                num_packets += 1
                odd |= packet.pts is None or packet.size == 0 or packet.is_corrupt
                if packet.pts is not None and packet.is_keyframe:
                    keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
                if packet.pts is not None and not packet.is_discard:
                    times.append(packet.pts)
        except av.FFmpegError:
            odd = True  # decoding will tell where
    # Packets come in decoding order; B-frames are shown in another.
    times.sort()
    keys.sort()
    unique = len(set(times)) == len(times)
    trusted = unique and not odd and codec not in _HIDDEN_FRAME_CODECS and announced in (0, num_packets)
    key_times, key_seeks = np.array(keys, dtype=np.int64).reshape(-1, 2).T
    return FrameIndex(len(times), np.array(times, dtype=np.int64), key_times, key_seeks), trusted
