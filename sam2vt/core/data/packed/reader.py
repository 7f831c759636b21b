"""Read rows of shards: the encoded frames of a segment, its masks, slices of a video file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sam2vt.core.data.packed.manifest import DATA_COLUMNS, FORMAT, INDEX_COLUMNS, MASK_COLUMNS, VERSION
from sam2vt.core.storage.folder import Folder
from sam2vt.core.types import PackedVideo, VideoRecord
from sam2vt.errors import DataError, located

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_SHARDS_HELD = 16  # open files with their footers
_SEGMENTS_HELD = 8  # of masks, which are small
_SLICES_HELD = 4


class Place(NamedTuple):
    """Where a segment is stored."""

    video_id: str
    segment: int
    root: str
    shard: str
    row: int

    @property
    def file(self) -> str:
        return f"{self.root}/{self.shard}"

    def __str__(self) -> str:
        return f"{self.file}: row {self.row}"


class PackedFrameMasks(NamedTuple):
    """The content of a row about an annotated frame; masks are COCO's compressed RLE counts."""

    objects: dict[int, bytes]  # those that are visible
    void: bytes | None
    known: frozenset[int] | None  # see `masks.known_objects`


def place_of(record: VideoRecord, frame_index: int) -> Place:
    """Return the place of the frame's segment."""
    assert record.packed is not None
    return _place(record.video_id, record.packed, frame_index // record.packed.segment_frames)


def read_masks(record: VideoRecord, frame_index: int) -> PackedFrameMasks:
    """Raise DataError if the row cannot be read, or does not contain the frame."""
    place = place_of(record, frame_index)
    masks = _segment_masks(place).get(frame_index)
    if masks is None:
        raise DataError(
            f"{place} has no masks for frame {frame_index} of video {record.video_id}, which records.parquet "
            "says are there: the files belong to different packs; pack the dataset again",
            file=place.file,
        )
    return masks


def iterate_images(record: VideoRecord, targets: Sequence[int]) -> Iterator[tuple[int, str, bytes]]:
    """Yield (frame index, where it is stored, the encoded image) of ascending frames, with one segment in
    memory.
    """
    assert record.packed is not None
    held: Place | None = None
    data: Any = None
    for index in targets:
        place = place_of(record, index)
        # Ascending frames share a row: each is read once.
        if place != held:
            with located(frame=index):
                held, data = place, _read(place, DATA_COLUMNS)["data"]
        offset = index % record.packed.segment_frames
        if offset >= len(data):
            raise DataError(
                f"{place} holds {len(data)} frames, so not frame {index} of video {record.video_id}; copy "
                "the shard again",
                file=place.file,
                frame=index,
            )
        yield index, f"{place}, frame {index}", data[offset].as_py()


def first_bytes(record: VideoRecord, at_most: int) -> bytes:
    """Return the first bytes of a packed video, which distinguish it from others."""
    data = _read(place_of(record, 0), DATA_COLUMNS)["data"].as_py()
    return data[0][:at_most] if data else b""


@dataclass(frozen=True)
class PackedFile:
    """A video file whose slices are stored in rows; its text is the place, for messages."""

    video_id: str
    packed: PackedVideo
    ending: str  # with its dot
    num_bytes: int

    def __str__(self) -> str:
        return str(_place(self.video_id, self.packed, 0))

    @property
    def slice_bytes(self) -> int:
        return slice_bytes(self.num_bytes, sum(number for _, _, number in self.packed.rows))

    def open(self) -> SlicedFile:
        return SlicedFile(self)

    def index_row(self) -> dict[str, Any]:
        """Return the index of frames that was packed with the video. Raises DataError if it has none."""
        place = _place(self.video_id, self.packed, 0)
        index = _read(place, INDEX_COLUMNS)["index"].as_py()
        if index is None:
            raise DataError(
                f"{place} lacks the times of the video's frames; pack the dataset again", file=place.file
            )
        return index


class SlicedFile(io.RawIOBase):
    """Reads a packed video file; the last few slices of a process are kept."""

    def __init__(self, source: PackedFile) -> None:
        self._source, self._position, self._failed = source, 0, False
        self.name = f"video{source.ending}"  # FFmpeg looks at the ending

    def readable(self) -> bool:
        """Return True: FFmpeg asks before it reads."""
        return True

    def seekable(self) -> bool:
        """Return True: FFmpeg asks before it seeks."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._source.num_bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._source.num_bytes - self._position)
        if wanted <= 0:
            return 0
        number, start = divmod(self._position, self._source.slice_bytes)
        if self._failed:  # FFmpeg asks again before it lets the error through
            return 0
        self._failed = True
        piece = _slice(self._source, number)[start : start + wanted]
        self._failed = False
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)


@lru_cache(maxsize=_SLICES_HELD)
def _slice(source: PackedFile, number: int) -> bytes:
    place = _place(source.video_id, source.packed, number)
    data = _read(place, DATA_COLUMNS)["data"]
    expected = min(source.slice_bytes, source.num_bytes - number * source.slice_bytes)
    content = data[0].as_py() if len(data) else b""
    if len(content) != expected:
        raise DataError(
            f"{place} holds {len(content)} bytes of the file of video {source.video_id}, not {expected}; "
            "copy the shard again",
            file=place.file,
        )
    return content


def slice_bytes(num_bytes: int, num_rows: int) -> int:
    """Return the bytes per row; the last rows contain the rest."""
    return max(1, -(-num_bytes // num_rows))


def open_shard(root: str, shard: str) -> pq.ParquetFile:
    """Return a shard of this process. Raises DataError if it is missing, truncated, or not from sam2vt."""
    return _open(os.getpid(), root, shard)


@lru_cache(maxsize=_SHARDS_HELD)
def _open(process: int, root: str, shard: str) -> pq.ParquetFile:
    """Open a shard per process: a forked one must not share the file's position."""
    import pyarrow.parquet as pq

    folder = Folder(root, raises=DataError)
    try:
        # From a remote folder one request for the columns of a row instead of one each.
        file = pq.ParquetFile(
            folder.open(shard), pre_buffer=not folder.is_local, page_checksum_verification=True
        )
    except (OSError, ValueError) as error:
        raise DataError(f"{error}; {_REMEDY.format(root=root)}") from None
    if (file.schema_arrow.metadata or {}).get(FORMAT.encode()) != str(VERSION).encode():
        raise DataError(f"it is no shard of version {VERSION} of sam2vt; pack the dataset again")
    return file


_REMEDY = "copy the shard again (`sam2vt pack --verify {root}` checks all of them)"


def _read(place: Place, columns: Sequence[str]) -> dict[str, Any]:
    """Return the columns of a row, as Arrow scalars."""
    import pyarrow as pa

    with located(file=place.file):
        try:
            file = open_shard(place.root, place.shard)
        except DataError as error:
            raise DataError(f"{place} cannot be read: {error}") from None
        if place.row >= file.num_row_groups:
            raise DataError(
                f"{place} does not exist: the shard has {file.num_row_groups} rows; it is of another pack "
                "than records.parquet: pack the dataset again"
            )
        try:
            table = file.read_row_group(place.row, columns=list(columns), use_threads=False)
            row = {name: table.column(name)[0] for name in columns}
        except (OSError, ValueError, KeyError, IndexError, pa.ArrowException) as error:
            raise DataError(f"{place} cannot be read: {error}; {_REMEDY.format(root=place.root)}") from None
        # A shard of another pack has the same name and rows that can be read.
        found = (row["video_id"].as_py(), row["segment"].as_py())
        if found != (place.video_id, place.segment):
            raise DataError(
                f"{place} holds segment {found[1]} of video {found[0]}, not segment {place.segment} of video "
                f"{place.video_id}: the shard is of another pack than records.parquet; pack the dataset again"
            )
        return row


@lru_cache(maxsize=_SEGMENTS_HELD)
def _segment_masks(place: Place) -> dict[int, PackedFrameMasks]:
    """Return frame index -> its masks."""
    found = {}
    for entry in _read(place, MASK_COLUMNS)["masks"].as_py() or ():
        known = None if entry["known"] is None else frozenset(entry["known"])
        objects = dict(zip(entry["ids"], entry["counts"]))
        found[entry["frame"]] = PackedFrameMasks(objects, entry["void"], known)
    return found


def _place(video_id: str, packed: PackedVideo, segment: int) -> Place:
    video_id = packed.video_id or video_id
    # Rows of a video may be spread over several shards.
    left = segment
    for shard, first, number in packed.rows:
        if left < number:
            return Place(video_id, segment, packed.root, shard, first + left)
        left -= number
    raise DataError(f"{packed.root}: video {video_id} has no segment {segment}; pack the dataset again")
