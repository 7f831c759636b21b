"""Compute fingerprints of datasets and videos, which are equal only if nothing has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator

from sam2vt.core.data.records.serialization import encode_record
from sam2vt.core.storage.folder import Folder
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError


def fingerprint(records: Iterable[VideoRecord]) -> str:
    """Return the SHA-256 of the records, and of the sizes and times of their files, without opening these.

    Raises DataError naming a missing file, or if there is no video.
    """
    digest, is_empty = hashlib.sha256(), True
    for record in records:
        is_empty = False
        digest.update(encode_record(record).encode())
        for path in _files(record):
            # Contents are not read: hashing a large dataset takes hours.
            digest.update(_size_and_time(path, record).encode())
    if is_empty:
        raise DataError("there is no video in the data; check its path")
    return digest.hexdigest()


def frames_fingerprint(record: VideoRecord) -> str:
    """Return the SHA-256 of the paths, sizes and times of the files of a video's usable frames.

    Id and masks do not count. Raises DataError naming a missing file.
    """
    # As a list: names of cached features depend on its text.
    values = record.intensity_range and list(record.intensity_range)
    seen = (record.num_frames, record.height, record.width, record.frames, values)
    digest = hashlib.sha256(repr(seen).encode())
    for path in _frame_files(record):
        digest.update(f"{os.path.abspath(path)} {_size_and_time(path, record)}\n".encode())
    if record.packed is not None:
        packed = record.packed
        folder = Folder(packed.root, raises=DataError)
        digest.update(repr((folder.root, packed.segment_frames, packed.rows, packed.file)).encode())
        digest.update(repr(folder.sizes_and_times(*sorted({row[0] for row in packed.rows}))).encode())
    return digest.hexdigest()


def _size_and_time(path: str, record: VideoRecord) -> str:
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror} (video {record.video_id}); restore the file, "
            "or remove what names it"
        ) from None
    return f"{status.st_size} {status.st_mtime_ns}"


def _frame_files(record: VideoRecord) -> Iterator[str]:
    yield from record.frame_paths or ()
    if record.video_path is not None:
        yield record.video_path


def _files(record: VideoRecord) -> Iterator[str]:
    yield from _frame_files(record)
    # Each once: frames may share files.
    annotations = record.annotations.values()
    yield from dict.fromkeys(path for each in annotations for path in sorted(each.files()))
