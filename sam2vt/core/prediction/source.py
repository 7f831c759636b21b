"""Read a stored video to track objects in; a remote one is downloaded on first use."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sam2vt.core.data.formats.records import bare_record
from sam2vt.core.data.frames.reading import iterate_frames, read_frames
from sam2vt.core.data.frames.video import frame_rate, video_source
from sam2vt.core.data.writing.folder import frame_stems
from sam2vt.core.storage.disk import unwritable
from sam2vt.core.storage.folder import Folder
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError, first_line

log = logging.getLogger(__name__)

Frame = tuple[int, np.ndarray]  # index in the video, uint8 RGB [height, width, 3]

_FETCHED_AT_ONCE = 8  # frames of a remote folder; each alone waits for the network


class Source:
    """A video to track objects in; its frames are upright RGB, all of one size.

    `where` names it in messages. Opening costs nothing; `close`, or the end of a `with` block, releases what
    reading took. Frames that cannot be read raise DataError with file and frame.
    """

    is_live = False  # True: frames come once, in order, and nobody knows how many

    def __init__(
        self, video_id: str, where: str, build: Callable[[], VideoRecord], bare: bool = True
    ) -> None:
        self.video_id, self.where = video_id, where
        self._build, self._bare = build, bare  # bare: it certainly has no masks
        self._record: VideoRecord | None = None

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def record(self) -> VideoRecord | None:
        """The frames as references, with the masks of its dataset; None for a live source."""
        return self._stored

    @property
    def height(self) -> int:
        """Of its frames, in pixels."""
        return self._stored.height

    @property
    def width(self) -> int:
        """Of its frames, in pixels."""
        return self._stored.width

    @property
    def num_frames(self) -> int | None:
        """Number of frames of the whole video; None for a live source."""
        return self._stored.num_frames

    @property
    def fps(self) -> float | None:
        """Mean number of frames per second; None if unknown, as for a folder of frames."""
        file = video_source(self._stored)
        return None if file is None else frame_rate(file)

    @property
    def has_masks(self) -> bool:
        """Whether its dataset has masks, which may serve as prompts."""
        return not self._bare and bool(self._stored.annotated_frames)

    def frame_name(self, index: int) -> str:
        """Return the name of a frame's file without its ending, or its index in five digits."""
        return self._names[index]

    def frames(
        self,
        start: int = 0,
        size: tuple[int, int] | None = None,
        as_stock: bool = False,
        with_passed: bool = False,
    ) -> Iterator[Frame]:
        """Yield (index, frame) in order, from frame `start` on, in constant memory.

        `size` is (height, width) to resize to while decoding; None keeps the source's. `as_stock` as for
        `resize_frame`. `with_passed` also yields the frames that a live source skips to reach `start`.
        """
        with self._told():
            usable = self._stored.frames
            rest = range(min(max(start, usable.start), usable.stop), usable.stop)
            part = replace(self._stored, frame_range=(rest.start, rest.stop))
            yield from zip(rest, iterate_frames(part, size, as_stock))

    def frame_at(self, index: int) -> np.ndarray:
        """Return one frame, uint8 RGB [height, width, 3]."""
        with self._told():
            return read_frames(self._stored, [index])[0]

    def interrupt(self) -> None:
        """End a live source, and wake up a thread that waits for its next frame; from any thread."""

    def close(self) -> None:
        """Release what reading took; the source can be read again."""

    @property
    def _stored(self) -> VideoRecord:
        if self._record is None:
            with self._told():
                self._record = self._build()
        return self._record

    @cached_property
    def _names(self) -> list[str]:
        return frame_stems(self._stored)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say where the user knows the video, in the errors of the block."""
        yield


class FetchedSource(Source):
    """A remote video file, or folder of frames, read from a temporary local copy until it is closed."""

    def __init__(self, video_id: str, where: str, folder: str, names: list[str], has_images: bool) -> None:
        super().__init__(video_id, where, self._fetch)
        self._folder, self._files, self._has_images = folder, names, has_images
        self._copy: TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Delete the copy."""
        if self._copy is not None:
            self._copy.cleanup()
        self._copy = self._record = None

    def _fetch(self) -> VideoRecord:
        self._copy = TemporaryDirectory(prefix="sam2vt-source-")
        log.info("%s: is fetched to %s while it is tracked", self.where, self._copy.name)
        paths = [str(Path(self._copy.name, name)) for name in self._files]
        try:
            remote = Folder(self._folder)
            with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
                list(pool.map(remote.fetch, self._files, paths))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):  # TMPDIR tells where it may go instead
                raise unwritable(self._copy.name, error).at(file=self._copy.name) from None
            raise DataError(
                f"{self.where}: cannot be fetched: {first_line(error)}; check the address, and that you may "
                "read it",
                video=self.video_id,
                file=self.where,
            ) from None
        return bare_record(self.video_id, paths[0], paths if self._has_images else ())

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except DataError as error:
            copy = self._copy.name if self._copy else ""
            if not copy or copy not in str(error) or error.place["file"] == copy:
                raise
            place = {
                **error.place,
                "file": str(error.place["file"] or self.where).replace(copy, self._folder),
            }
            raise DataError(str(error).replace(copy, self._folder), **place) from None
