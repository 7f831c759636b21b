"""Video files opened: only what is one video, and no frame larger than allowed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av

from sam2vt.core.data.frames.images import MAX_PIXELS
from sam2vt.core.data.packed.reader import PackedFile
from sam2vt.errors import DataError

VideoSource = str | PackedFile  # a path, or a video file in the rows of shards

# FFmpeg also knows lists of other files, whatever their name ends with.
_CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,h264,hevc,m4v,ivf"
_CAP = {"max_pixels": str(MAX_PIXELS)}  # FFmpeg refuses larger frames before it allocates one
_OPTIONS = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file", **_CAP}


@contextmanager
def open_video(path: VideoSource) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream, decoding in one thread: workers are the parallelism."""
    try:
        container = av.open(path if isinstance(path, str) else path.open(), options=_OPTIONS)
    except (av.FFmpegError, OSError) as error:
        raise DataError(
            f"{path}: cannot be opened as a video: {error.strerror}; allowed are single videos, not lists of "
            f"files, in the containers {_CONTAINERS}"
        ) from None
    with container:
        # Cover pictures are video streams, too.
        pictures = av.stream.Disposition.attached_pic
        streams = [each for each in container.streams.video if not each.disposition & pictures]
        if not streams:
            kinds = ", ".join(sorted({str(each.type) for each in container.streams})) or "nothing"
            raise DataError(f"{path}: the file has no video stream; it holds {kinds}")
        codec = streams[0].codec_context
        if not codec.width or not codec.height:
            raise DataError(
                f"{path}: the file does not tell how large its frames are, or they have more than the "
                f"{MAX_PIXELS} pixels that are allowed: scale the video down or re-encode it"
            )
        codec.thread_count, codec.options = 1, {**codec.options, **_CAP}
        yield container, streams[0]
