"""Write and read the journal of a video: its masks as one JSON line per frame, appended while tracking.

A line is `{"frame": 0, "objects": [{"id": 1, "counts": "<compressed RLE>", "presence": 0.98, "iou": 0.87}]}`,
with masks at the source's size and numbers with four decimals, so the same masks give the same bytes. Lines
may be in any order, as backward tracking writes them. If a frame has several, the last entry of an object
counts.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sam2vt.core.data.formats.layout import is_object_id
from sam2vt.core.data.json_files import shown
from sam2vt.core.data.masks.rle import encode_mask, paint_runs, run_lengths
from sam2vt.core.prediction.types import FrameMasks, ObjectMask
from sam2vt.core.storage.disk import unreadable, unwritable
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

_DIGITS = 4
_FRAME = re.compile(rb'\{"frame":([0-9]{1,12}),"objects":\[')  # how a line begins


class Journal:
    """A journal that is being written. Every method raises DataError for errors of the disk."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        """Open the journal to continue after its first `offset` bytes; later bytes are dropped.

        Raises DataError if it has fewer bytes.
        """
        self.path, self.offset = path, offset
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Without a buffer: bytes that a saved state counts on survive a kill, and errors come at once.
            self._file = path.open("r+b" if offset else "wb", buffering=0)
            length = self._file.seek(0, os.SEEK_END)
            if length >= offset:
                self._file.truncate(self._file.seek(offset))
                return
            self._file.close()
        except FileNotFoundError:
            length = 0
        except OSError as error:
            raise unwritable(path, error) from None
        raise DataError(
            f"{path}: has {length} bytes, the saved state of its tracking needs {offset}: masks of earlier "
            "frames are lost; remove the output folder and predict again"
        )

    def append(self, masks: FrameMasks) -> None:
        """Write the line of a frame. After an error of the disk, complete lines stay."""
        line = memoryview(_line(masks))
        try:
            while line:  # a disk that gets full takes a part of it
                line = line[self._file.write(line) :]
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self._file.seek(self.offset))
            raise unwritable(self.path, error) from None
        self.offset = self._file.tell()

    def sync(self) -> None:
        """Flush all lines to the disk, before saving anything that relies on them."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from None

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _line(masks: FrameMasks) -> bytes:
    objects = [
        {
            "id": each.object_id,
            "counts": encode_mask(each.mask)["counts"].decode(),
            "presence": _rounded(each.presence),
            "iou": _rounded(each.iou),
        }
        for each in masks.objects
    ]
    line = json.dumps({"frame": masks.frame, "objects": objects}, separators=(",", ":"))
    return line.encode() + b"\n"


def _rounded(value: float) -> float | None:
    """Return the number as it is written; JSON has no NaN."""
    return round(float(value), _DIGITS) if math.isfinite(value) else None


class Entry(NamedTuple):
    """An object on a frame, as in the journal: checked, but not decoded."""

    object_id: int
    rle: dict[str, Any]  # size and counts
    runs: np.ndarray  # its run lengths, int64 [R]
    presence: float
    iou: float

    @property
    def area(self) -> int:
        """Number of pixels of the mask."""
        return int(self.runs[1::2].sum())

    @property
    def mask(self) -> np.ndarray:
        """Return the mask, bool [height, width]."""
        return paint_runs(self.runs, *self.rle["size"])


@dataclass(frozen=True)
class TrackedVideo:
    """All data that an output needs of a completely tracked video.

    A frame without a line, such as those before the first prompt, has no objects. Every method raises
    DataError for a journal that cannot be read, and names the line.
    """

    name: str  # a file name without ending, unique in the call: see `writing.folder.folder_names`
    video_id: str
    height: int
    width: int
    num_frames: int
    stems: tuple[str, ...]  # names of the frames without ending: see `writing.folder.frame_stems`
    names: dict[int, str]  # object id -> name, where it has one
    journal: Path
    record: VideoRecord | None  # the source's frames; None: they are gone, as of a live source
    fps: float = 24.0
    apart: bool = False  # objects do not overlap: where those of two lines of a frame do, the first has it

    def entries(self, only: int | None = None) -> Iterator[tuple[int, list[Entry]]]:
        """Yield (index, objects by ascending id) of each frame in order, with one in memory.

        `only` is the id of an object; others are skipped.
        """
        lines = self._find_lines()
        try:
            with self.journal.open("rb") as file:
                for frame in range(self.num_frames):
                    found: dict[int, Entry] = {}
                    for number, offset in lines.get(frame, ()):
                        file.seek(offset)
                        read = self._read(file.readline(), number, None if self.apart else only)
                        found |= self._outside(found, read) if self.apart and found else read
                    yield frame, [found[key] for key in sorted(found) if only in (None, key)]
        except OSError as error:
            raise unreadable(self.journal, error) from None

    def frames(self) -> Iterator[FrameMasks]:
        """Yield the masks of each frame in order, with one frame in memory."""
        for frame, entries in self.entries():
            objects = (
                ObjectMask(each.object_id, self.names.get(each.object_id, ""), each.mask, *each[3:])
                for each in entries
            )
            yield FrameMasks(frame, self.height, self.width, tuple(objects))

    @cached_property
    def object_ids(self) -> tuple[int, ...]:
        """Return the ids of all objects that have a name or an entry, ascending."""
        return tuple(sorted(self.first_frames.keys() | self.names.keys()))

    @cached_property
    def first_frames(self) -> dict[int, int]:
        """Return object id -> the frame of its first entry, for objects that have one."""
        found: dict[int, int] = {}
        for frame, entries in self.entries():
            for each in entries:
                found.setdefault(each.object_id, frame)
        return found

    def _find_lines(self) -> dict[int, list[tuple[int, int]]]:
        """Return frame -> number and offset of each of its lines.

        They are looked for on each pass: a call may have thousands of videos.
        """
        lines: dict[int, list[tuple[int, int]]] = {}
        offset = 0
        try:
            with self.journal.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    match = _FRAME.match(line)
                    if match is None or not line.endswith(b"\n"):
                        raise self._damaged(number, "it is no whole line of a frame")
                    if int(match[1]) >= self.num_frames:
                        raise self._damaged(number, f"frame {int(match[1])} is not in the video")
                    lines.setdefault(int(match[1]), []).append((number, offset))
                    offset += len(line)
        except OSError as error:
            raise unreadable(self.journal, error) from None
        return lines

    def _outside(self, found: dict[int, Entry], read: dict[int, Entry]) -> dict[int, Entry]:
        """Return the entries of a line without the pixels of other objects on lines before it."""
        apart = {}
        for key, entry in read.items():
            mask = entry.mask
            for other in found:
                if other != key:
                    mask &= ~found[other].mask
            rle = {"size": entry.rle["size"], "counts": encode_mask(mask)["counts"].decode()}
            runs = run_lengths(rle, self.height, self.width, str(self.journal))
            apart[key] = entry._replace(rle=rle, runs=runs)
        return apart

    def _read(self, line: bytes, number: int, only: int | None) -> dict[int, Entry]:
        try:
            objects = json.loads(line)["objects"]
            entries = [self._entry(each, number) for each in objects if only in (None, each["id"])]
            return {entry.object_id: entry for entry in entries}
        # A damaged line may be anything; only what is checked above is known of it.
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise self._damaged(number, f"{type(error).__name__}: {error}") from None

    def _entry(self, each: dict[str, Any], number: int) -> Entry:
        key, rle = each["id"], {"size": [self.height, self.width], "counts": each["counts"]}
        if type(key) is not int or not is_object_id(key) or not isinstance(rle["counts"], str):
            raise self._damaged(number, f"object {shown(key)} has no number, or no counts")
        runs = run_lengths(rle, self.height, self.width, f"{self._where(number)}, object {key}")
        scores = (math.nan if each[name] is None else float(each[name]) for name in ("presence", "iou"))
        return Entry(key, rle, runs, *scores)

    def _where(self, number: int) -> str:
        return f"{self.journal}: line {number} (video {self.video_id})"

    def _damaged(self, number: int, why: str) -> DataError:
        return DataError(
            f"{self._where(number)} is damaged: {why[:200]}; remove the output folder and predict again"
        )
