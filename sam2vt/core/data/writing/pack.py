"""Pack records into shards, for `sam2vt pack`; a stopped pack resumes and gives the same shards."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace

from sam2vt.core.data.packed.manifest import (
    MANIFEST,
    PROGRESS,
    RECORDS,
    PackedPart,
    PackManifest,
    PackProgress,
    read_progress,
    shard_name,
    shard_schema,
    write_json,
)
from sam2vt.core.data.records.fingerprint import fingerprint
from sam2vt.core.data.records.serialization import encode_record
from sam2vt.core.data.records.table import LEAN, write_records
from sam2vt.core.data.workers import process_pool, with_progress
from sam2vt.core.data.writing.encoding import parse_encoding
from sam2vt.core.data.writing.segments import Row, SegmentTask, build_rows, num_segments, packed_record
from sam2vt.core.storage.folder import Folder
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError, DataError, Sam2vtError

_SEGMENTS_A_TASK = 4
_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class PackOptions:
    """How a dataset is divided and written."""

    segment_frames: int = 16
    shard_mb: int = 128
    encode: str = "keep"

    def __post_init__(self) -> None:
        parse_encoding(self.encode)
        for name, value in (("segment_frames", self.segment_frames), ("shard_mb", self.shard_mb)):
            if value < 1:
                raise ConfigError(f"{name}={value}: has to be at least 1")


def pack(
    records: Sequence[VideoRecord], out: str, options: PackOptions = PackOptions(), workers: int | None = None
) -> PackManifest:
    """Write shards of these records to `out`, an empty folder, a URI, or what an earlier call left there.

    Finished shards are not written again. After any interruption, the same records and options give the same
    bytes. `manifest.json` comes last. Raises DataError for data that cannot be read, and for a folder with
    other content or packed from other data.
    """
    folder = Folder(out, raises=DataError)
    is_new = folder.is_local and not os.path.exists(folder.root)
    progress = _begin(folder, PackProgress(fingerprint(records), asdict(options)))
    with _nothing_left(folder, is_new):
        return _pack(folder, progress, records, options, workers)


@contextmanager
def _nothing_left(folder: Folder, is_new: bool) -> Iterator[None]:
    """Remove what says that a pack has begun, where it is refused before its first shard."""
    try:
        yield
    except Sam2vtError:
        with suppress(OSError, DataError):  # the first error says more
            if folder.sizes().keys() == {PROGRESS}:
                folder.delete(PROGRESS)
                if is_new:
                    os.rmdir(folder.root)
        raise


def _pack(
    folder: Folder,
    progress: PackProgress,
    records: Sequence[VideoRecord],
    options: PackOptions,
    workers: int | None,
) -> PackManifest:
    total = sum(num_segments(record, options.segment_frames) for record in records)
    done = sum(part.rows for part in progress.shards)
    rows = with_progress(_rows(records, options, done, workers), total, "segment", done)
    for part in _write_shards(folder, rows, len(progress.shards), options.shard_mb * _MEGABYTE):
        progress = replace(progress, shards=[*progress.shards, part])
        write_json(folder, progress)
    manifest = _finish(folder, records, options, progress.shards)
    folder.delete(PROGRESS)
    return manifest


def _begin(folder: Folder, wanted: PackProgress) -> PackProgress:
    """Return what there is of this pack; anything else in the folder is an error."""
    sizes = folder.sizes()
    if MANIFEST in sizes:
        raise DataError(
            f"{folder.root}: holds a finished pack, or another {MANIFEST}; choose an empty folder, or check "
            f"what is there with `sam2vt pack --verify {folder.root}`"
        )
    if PROGRESS not in sizes:
        if sizes:
            raise DataError(f"{folder.root}: is not empty ({min(sizes)}); choose an empty folder")
        write_json(folder, wanted)
        return wanted
    found = read_progress(folder)
    if (found.source, found.options) != (wanted.source, wanted.options):
        what = "options" if found.options != wanted.options else "data, or files that have changed since"
        raise DataError(
            f"{folder.root}: holds an unfinished pack of other {what} ({found.options}); give the same "
            "again, or choose an empty folder"
        )
    # Shards after the first incomplete one are written again: rows follow each other.
    whole = [sizes.get(part.name) == part.bytes for part in found.shards]
    return replace(found, shards=found.shards[: [*whole, False].index(False)])


def _rows(
    records: Iterable[VideoRecord], options: PackOptions, done: int, workers: int | None
) -> Iterator[Row]:
    """Yield the rows of all videos in order, but for the first `done`."""
    workers = workers or os.cpu_count() or 1
    tasks = _tasks(records, options, done)
    for rows in map(build_rows, tasks) if workers == 1 else _in_processes(build_rows, tasks, workers):
        yield from rows


def _tasks(records: Iterable[VideoRecord], options: PackOptions, done: int) -> Iterator[SegmentTask]:
    encoding = parse_encoding(options.encode)
    for place, record in enumerate(records):
        number = num_segments(record, options.segment_frames)
        # As text, paths that count up are one pattern; a pickle would send every path to each process.
        text = encode_record(record) if done < number else ""
        for start in range(done, number, _SEGMENTS_A_TASK):
            segments = range(start, min(start + _SEGMENTS_A_TASK, number))
            yield SegmentTask(text, place, segments, options.segment_frames, encoding)
        done = max(0, done - number)


def _in_processes(
    build: Callable[[SegmentTask], list[Row]], tasks: Iterator[SegmentTask], workers: int
) -> Iterator[list[Row]]:
    """Yield rows in the order of the tasks; only a few are under way, so that memory stays bounded."""
    waiting: deque[Future[list[Row]]] = deque()
    with process_pool(workers, ": the same command resumes where this one stopped") as pool:
        for task in tasks:
            waiting.append(pool.submit(build, task))
            # Enough to keep all workers busy while the oldest result is written.
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _write_shards(folder: Folder, rows: Iterator[Row], first: int, limit: int) -> Iterator[PackedPart]:
    """Write shards, each ended by the row that fills it, whatever compression makes of its size."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, row, number = shard_schema(), next(rows, None), first
    while row is not None:
        num_rows = size = 0
        with (
            folder.create(shard_name(number)) as file,
            pq.ParquetWriter(file, schema, compression="zstd", **LEAN) as writer,
        ):
            while row is not None and size < limit:
                writer.write_batch(pa.RecordBatch.from_pylist([row], schema=schema))  # a row group of its own
                num_rows, size = num_rows + 1, size + _row_bytes(row)
                row = next(rows, None)
        yield PackedPart(shard_name(number), file.num_bytes, file.sha256, num_rows)
        number += 1


def _row_bytes(row: Row) -> int:
    masks = sum(len(counts) for frame in row["masks"] for counts in frame["counts"])
    return masks + sum(map(len, row["data"]))


def _finish(
    folder: Folder, records: Sequence[VideoRecord], options: PackOptions, shards: list[PackedPart]
) -> PackManifest:
    """Write which rows are which video, and the manifest."""
    encoding, seen = parse_encoding(options.encode), Counter[str]()

    def packed() -> Iterator[VideoRecord]:
        first = 0
        for record in records:
            number = num_segments(record, options.segment_frames)
            rows = _rows_between(shards, first, first + number)
            yield packed_record(record, options.segment_frames, encoding, rows)
            seen.update(videos=1, frames=record.num_frames, annotated_frames=len(record.annotations))
            first += number

    write_records(packed(), f"{folder.root}/{RECORDS}")
    size = folder.sizes()[RECORDS]
    part = PackedPart(RECORDS, size, folder.sha256(RECORDS), seen["videos"])
    how = {"segment_frames": options.segment_frames, "encode": options.encode}
    manifest = PackManifest(**seen, **how, shards=shards, records=part)  # type: ignore[arg-type]
    write_json(folder, manifest)
    return manifest


def _rows_between(shards: list[PackedPart], first: int, stop: int) -> tuple[tuple[str, int, int], ...]:
    """Return rows first <= i < stop of all shards as (shard, its first row, how many)."""
    found, start = [], 0
    for shard in shards:
        low, high = max(first, start), min(stop, start + shard.rows)
        if low < high:
            found.append((shard.name, low - start, high - low))
        start += shard.rows
    return tuple(found)
