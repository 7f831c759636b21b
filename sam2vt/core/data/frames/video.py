"""Read frames of video files exactly by index.

Frame i is the i-th frame that decoding the whole file in order yields, whatever its times are. B-frames,
uneven frame times, start offsets and frames that an edit list discards do not matter. To reach it without
decoding everything before it, the packets are listed once, without decoding. The list gives presentation
times and key frames; every read compares the times of decoded frames with it. If the list cannot be trusted,
one pass over the decoded frames replaces it.

Frames are upright: a rotation flag in the file is applied, because masks are drawn on displayed frames.
Non-square pixels are not stretched.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, pairwise
from math import inf
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from sam2vt.core.data.frames.video_index import FrameIndex, VideoSource, list_packets, open_video
from sam2vt.core.data.packed.reader import PackedFile
from sam2vt.core.storage.disk import unreadable
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError, located

_Frames = Generator[tuple[int, av.VideoFrame], None, None]
_ROTATIONS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}
# Opening the file and seeking costs about as much as decoding this many frames.
_FRAMES_WORTH_A_SEEK = 8


@dataclass(frozen=True)
class VideoProbe:
    """Facts about a video file, found without decoding all of it. Sizes are in pixels, as displayed."""

    path: str
    num_frames: int
    height: int
    width: int
    rotation: int  # degrees counter-clockwise that are applied: 0, 90, 180 or 270
    codec: str


class _IndexMismatch(Exception):
    """The decoded frames are not those that the packets announced."""


@dataclass
class _CachedIndex:
    """A file's index, replaced by a safer one if it proves wrong."""

    index: FrameIndex


def probe_video(path: str | os.PathLike[str]) -> VideoProbe:
    """Return frame count, size and rotation of a video file.

    The count is that of the frames which the packets announce, without discarded ones; then only the first
    frame is decoded. If packets do not tell, all frames are decoded and counted. Raises DataError if the file
    cannot be opened or has no frame.
    """
    path = os.fspath(path)
    with located(file=path):
        # Only a decoded frame tells the rotation, and headers may state another size.
        with closing(_exact_frames(path, [0])) as frames:
            _, frame = next(frames)
        quarter_turns = _quarter_turns(frame, path, 0)
        height, width = (frame.width, frame.height) if quarter_turns % 2 else (frame.height, frame.width)
        with open_video(path) as (_, stream):
            codec = stream.codec_context.name
        num_frames = frame_index(path).num_frames
        return VideoProbe(path, num_frames, height, width, 90 * quarter_turns, codec)


def video_source(record: VideoRecord) -> VideoSource | None:
    """Return the video file of a record; None if its frames are images."""
    if record.packed is not None and record.packed.file is not None:
        return PackedFile(record.video_id, record.packed, *record.packed.file)
    return record.video_path


def frame_rate(source: VideoSource) -> float | None:
    """Return the mean number of frames per second that a video file states; None if it states none."""
    with open_video(source) as (_, stream):
        rate = stream.average_rate or stream.guessed_rate
    return float(rate) if rate else None


def frame_index(source: VideoSource) -> FrameIndex:
    """Return the index of a video file, the best that is known so far."""
    return _cached(source).index


def pixels_of(source: VideoSource, targets: Sequence[int]) -> Iterator[tuple[int, str, np.ndarray]]:
    """Yield (index, file, pixels uint8 RGB [h, w, 3]) of ascending frames of a video file, upright.

    Raises DataError naming the first frame that cannot be decoded.
    """
    converter = VideoReformatter()  # keeps what it computes for a size and format
    with located(file=str(source) if isinstance(source, str) else None):
        for index, frame in _exact_frames(source, targets):
            yield index, str(source), upright(frame, converter, source, index)


def _exact_frames(path: VideoSource, targets: Sequence[int]) -> _Frames:
    """Return (index, frame) of ascending frame indices of a video file."""
    cached = _cached(path)
    done = 0
    while done < len(targets):
        try:
            for index, frame in _decode_targets(path, cached.index, targets[done:]):
                yield index, frame
                done += 1
        except _IndexMismatch:
            # Nothing wrong was yielded: each frame's time is checked first.
            _mend(path, cached, targets[done])


def _mend(path: VideoSource, cached: _CachedIndex, target: int) -> None:
    """Replace an index that proved wrong: first by a decoded one, then by one that never seeks."""
    if not cached.index.exact:
        cached.index = _scan(path, cached.index)
    elif len(cached.index.key_times):
        none = np.zeros(0, dtype=np.int64)
        cached.index = replace(cached.index, key_times=none, key_seeks=none)
    else:
        raise DataError(
            f"{path}: frame {target} cannot be found again: the file decodes differently from one pass to "
            "the next; re-encode it",
            frame=target,
        )


def _decode_targets(
    path: VideoSource, index: FrameIndex, targets: Sequence[int]
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode on from one target to the next, or seeks where that saves enough frames."""
    if targets[-1] >= index.num_frames:
        raise DataError(
            f"{path}: frame {targets[-1]} does not decode: the file has {index.num_frames} frames "
            f"(0 to {index.num_frames - 1}); cut the masks to them or re-encode the video",
            frame=targets[-1],
        )
    done = 0
    while done < len(targets):
        with closing(_decode_from(path, index, targets[done])) as frames:
            for position, frame in frames:
                if position < targets[done]:
                    continue
                yield position, frame
                done += 1
                if done == len(targets):
                    return
                next_start = index.first_frame(index.key_place(targets[done]))
                # Decoding on is cheaper than a seek over a few frames.
                if next_start - position > _FRAMES_WORTH_A_SEEK:
                    break
            else:
                raise _IndexMismatch


def _decode_from(path: VideoSource, index: FrameIndex, target: int) -> _Frames:
    """Return (index, frame) from the key frame before `target` on."""
    wanted = index.key_place(target)
    if wanted:
        with open_video(path) as (container, stream):
            key, packets = _seek(container, stream, index, wanted)
            if key:
                yield from _numbered(packets, path, index, index.first_frame(key))
                return
    with open_video(path) as (container, stream):
        yield from _numbered(container.demux(stream), path, index, None)


def _seek(container: Any, stream: Any, index: FrameIndex, wanted: int) -> tuple[int, Iterator[Any]]:
    """Yield the key frame that was reached and the packets from it on; 0: read the file from its start.

    Containers are searched by decoding time, but some land a key frame too early by it and not by the time at
    which the key frame is shown. Where neither reaches it, the nearer one is taken.
    """
    # Both at most; often they are the same.
    times = sorted({int(index.key_seeks[wanted]), int(index.key_times[wanted])})
    reached = []
    for time in times:
        key, packets = _seek_to(container, stream, index, time, wanted)
        if key == wanted:
            return key, packets
        reached.append(key)
    return _seek_to(container, stream, index, times[int(np.argmax(reached))], wanted)


def _seek_to(
    container: Any, stream: Any, index: FrameIndex, time: int, wanted: int
) -> tuple[int, Iterator[Any]]:
    """Seek, and accept only known key frames up to the wanted one: a seek may land elsewhere."""
    try:
        container.seek(time, stream=stream)
        packets = container.demux(stream)
        for packet in packets:
            key = index.key_of(packet.pts, wanted) if packet.is_keyframe else None
            if key is not None:
                return key, chain([packet], packets)
            if packet.dts is None or packet.dts > index.key_times[wanted]:
                break
    except av.FFmpegError:
        pass  # not every container can seek
    return 0, iter(())


def _numbered(
    packets: Iterator[Any], path: VideoSource, index: FrameIndex, sought: int | None
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode packets and numbers their frames, holding each to the time that the index has for it.

    `sought` is the index of the first complete frame after a seek; None: from the start of the file.
    """
    position = sought or 0
    try:
        for packet in packets:
            for frame in packet.decode():
                if index.times is not None:
                    at_start = sought is not None and position == sought
                    if at_start and frame.pts is not None and frame.pts < index.times[sought]:
                        continue  # shown before the key frame: it depends on frames before the seek
                    if position >= index.num_frames or frame.pts != index.times[position]:
                        raise _IndexMismatch
                # FFmpeg would else hand out gray blocks as pixels.
                if frame.is_corrupt:
                    raise _damaged(path, position, "the decoder marks it as corrupt")
                yield position, frame
                position += 1
    except av.FFmpegError as error:
        raise _damaged(path, position, str(error.strerror)) from None


def _damaged(path: VideoSource, position: int, reason: str) -> DataError:
    return DataError(
        f"{path}: frame {position} cannot be decoded: {reason}; the file is damaged: re-encode it, or cut "
        "video and masks to the frames before",
        frame=position,
    )


def _quarter_turns(frame: av.VideoFrame, path: VideoSource, index: int) -> int:
    """Return how often a frame is turned by 90 degrees counter-clockwise to be displayed, 0 to 3."""
    if frame.rotation % 90:
        raise DataError(
            f"{path}: frame {index} is flagged as rotated by {frame.rotation} degrees; allowed are "
            "multiples of 90: re-encode the video upright",
            frame=index,
        )
    return (frame.rotation // 90) % 4


def upright(frame: av.VideoFrame, converter: VideoReformatter, path: VideoSource, index: int) -> np.ndarray:
    """Return the frame's pixels as displayed, uint8 RGB [h, w, 3], by its own colour matrix and range."""
    pixels = converter.reformat(frame, format="rgb24").to_ndarray()
    quarter_turns = _quarter_turns(frame, path, index)
    return cv2.rotate(pixels, _ROTATIONS[quarter_turns]) if quarter_turns else pixels


def _cached(path: VideoSource) -> _CachedIndex:
    """Return the file's index from the cache of this process; a file that changed is indexed anew."""
    if isinstance(path, PackedFile):
        return _packed_index(path)
    try:
        status = os.stat(path)
    except OSError as error:
        raise unreadable(path, error) from None
    return _index_file(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _index_file(path: VideoSource, mtime_ns: int, num_bytes: int) -> _CachedIndex:
    index, trusted = list_packets(path)
    if not trusted:
        index = _scan(path, index)
    if index.num_frames == 0:
        raise DataError(f"{path}: the file has a video stream without a frame; re-encode it")
    return _CachedIndex(index)


@lru_cache(maxsize=4096)
def _packed_index(source: PackedFile) -> _CachedIndex:
    return _CachedIndex(FrameIndex.from_row(source.index_row()))


def _scan(path: VideoSource, listed: FrameIndex) -> FrameIndex:
    """Return the exact index, by decoding every frame once. Raises DataError if decoding fails."""
    counting = replace(listed, times=None)
    with open_video(path) as (container, stream):
        times = [frame.pts for _, frame in _numbered(container.demux(stream), path, counting, None)]
    rising = all(a is not None and b is not None and a < b for a, b in pairwise([*times, inf]))
    known = np.array(times, dtype=np.int64) if rising else None
    return replace(listed, num_frames=len(times), times=known, exact=True)
