"""Store the records of a dataset as a Parquet file that is read by row.

A million videos take some megabytes on disk. A reader keeps the file's footer and a few row groups in memory,
so its cost does not grow with the dataset. Only its path is sent between processes.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from sam2vt.core.data.records.serialization import decode_record, encode_record
from sam2vt.core.storage.disk import remedy_of_writing
from sam2vt.core.storage.folder import Counted, Folder
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SUFFIX = ".parquet"
# Every row is different: dictionaries and statistics would only add to the footer. Checksums tell of damage.
LEAN: dict[str, Any] = {"use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
_FORMAT = b"sam2vt.records"
_VERSION = b"1"
# To read one row its whole group is read: small groups cost footer (190 bytes each), large ones time.
_ROWS_A_GROUP = 256
_CHARACTERS_A_GROUP = 1 << 20
_GROUPS_HELD = 4


def write_records(records: Iterable[VideoRecord], path: str | os.PathLike[str]) -> None:
    """Write a record table to a local path or a URI; an old one is replaced atomically.

    Row groups are written as they fill up, so `records` may be a generator of any length. Raises DataError
    for a record that cannot be written, and if there is none.
    """
    folder, name = _folder_and_name(os.fspath(path))
    target = folder.address(name)
    try:
        with folder.create(name, private=True) as file:
            if not _write_rows(records, file):
                raise DataError(f"{target}: there is no record to write")
    except OSError as error:
        elsewhere = "check the address, and that you may write there"
        remedy = remedy_of_writing(target, error) if folder.is_local else elsewhere
        raise DataError(f"{target}: the record table cannot be written: {error}; {remedy}") from error


def _folder_and_name(path: str) -> tuple[Folder, str]:
    """Return where a table is stored; the folder raises OSError."""
    parent, name = os.path.split(path if "://" in path else os.path.abspath(os.path.expanduser(path)))
    try:
        return Folder(parent), name
    except OSError as error:
        raise DataError(str(error)) from None


def _write_rows(records: Iterable[VideoRecord], file: Counted) -> int:
    """Return how many rows were written."""
    import pyarrow.parquet as pq

    num_rows = 0
    with pq.ParquetWriter(file, _schema(), compression="zstd", **LEAN) as writer:
        for batch in _batches(records):
            writer.write_batch(batch)
            num_rows += batch.num_rows
    return num_rows


class RecordsByRow(Sequence[VideoRecord]):
    """Records that are read on access; a slice is a list. Subclasses define `_at`."""

    def _at(self, place: int) -> VideoRecord:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> VideoRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[VideoRecord]: ...
    def __getitem__(self, index: int | slice) -> VideoRecord | list[VideoRecord]:
        if isinstance(index, slice):
            return [self._at(place) for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return self._at(int(index) % len(self))

    def __iter__(self) -> Iterator[VideoRecord]:
        return map(self._at, range(len(self)))


class RecordTable(RecordsByRow):
    """The records in a file of `write_records`.

    Raises DataError if the file is missing, damaged, or another Parquet file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if "://" not in self.path:
            self.path = os.path.abspath(os.path.expanduser(self.path))
        self._pid, self._file = 0, self._opened()
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._ends = np.cumsum(sizes, dtype=np.int64)
        self._groups: OrderedDict[int, Any] = OrderedDict()

    def __reduce__(self) -> tuple[type[RecordTable], tuple[str]]:
        return RecordTable, (self.path,)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def _at(self, place: int) -> VideoRecord:
        group = int(np.searchsorted(self._ends, place, side="right"))
        first = int(self._ends[group - 1]) if group else 0
        record = decode_record(self._group(group)[place - first].as_py())
        if record.packed is None:
            return record
        # Shards are beside the table, wherever both have been moved.
        root = record.packed.root or os.path.dirname(self.path)
        return replace(record, packed=replace(record.packed, root=root), source=record.source or root)

    def video_ids(self) -> pa.ChunkedArray:
        """Return the ids of all videos, as an Arrow array of text."""
        return self._read(lambda file: file.read(columns=["video_id"], use_threads=False).column(0))

    def _group(self, group: int) -> Any:
        """Return the rows of a group as text, an Arrow array; the last few are kept."""
        if group not in self._groups:
            rows = self._read(
                lambda file: file.read_row_group(group, columns=["record"], use_threads=False).column(0)
            )
            self._groups[group] = rows
            # Shuffled reading touches all groups; keeping them would hold the whole table.
            while len(self._groups) > _GROUPS_HELD:
                self._groups.popitem(last=False)
        self._groups.move_to_end(group)
        return self._groups[group]

    def _read(self, read: Any) -> Any:
        if self._pid != os.getpid():  # a forked process must not share the file's position
            self._file = self._opened()
        try:
            return read(self._file)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.path}: the record table cannot be read: {error}; copy it again, or write it anew"
            ) from None

    def _opened(self) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        folder, name = _folder_and_name(self.path)
        self._pid = os.getpid()
        try:
            file = pq.ParquetFile(folder.open(name), pre_buffer=False, page_checksum_verification=True)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.path}: cannot be opened as a record table: {error}; copy it again, or write it anew"
            ) from None
        found = (file.schema_arrow.metadata or {}).get(_FORMAT)
        if found != _VERSION:
            what = "is no record table" if found is None else f"is of version {found.decode()}, not 1"
            raise DataError(f"{self.path}: the Parquet file {what}; write one with `sam2vt index`")
        return file


def _schema() -> pa.Schema:
    import pyarrow as pa

    columns = [("video_id", pa.string()), ("num_frames", pa.int32()), ("record", pa.string())]
    return pa.schema(columns, metadata={_FORMAT: _VERSION})


def _batches(records: Iterable[VideoRecord]) -> Iterator[pa.RecordBatch]:
    """Yield a batch for each row group."""
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    size = 0
    for record in records:
        text = encode_record(record)
        rows.append({"video_id": record.video_id, "num_frames": record.num_frames, "record": text})
        size += len(text)
        if len(rows) == _ROWS_A_GROUP or size >= _CHARACTERS_A_GROUP:
            yield pa.RecordBatch.from_pylist(rows, schema=_schema())
            rows, size = [], 0
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema=_schema())
