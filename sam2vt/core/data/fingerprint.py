"""What tells a dataset from any other, and from itself after a change."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator

from sam2vt.core.data.record_coding import encode_record
from sam2vt.core.types import LabelImage, MaskletFrame, ObjectImages, VideoRecord
from sam2vt.errors import DataError


def fingerprint(records: Iterable[VideoRecord]) -> str:
    """SHA-256 of the records, and of the sizes and times of their files, none of which is opened.

    Raises DataError naming a file that is missing, or where there is no video.
    """
    digest, is_empty = hashlib.sha256(), True
    for record in records:
        is_empty = False
        digest.update(encode_record(record).encode())
        for path in _files(record):
            try:
                status = os.stat(path)
            except OSError as error:
                raise DataError(
                    f"{path}: cannot be read: {error.strerror} (video {record.video_id}); restore the file, "
                    "or remove what names it"
                ) from None
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    if is_empty:
        raise DataError("there is no video in the data; check its path")
    return digest.hexdigest()


def _files(record: VideoRecord) -> Iterator[str]:
    yield from record.frame_paths or ()
    if record.video_path is not None:
        yield record.video_path
    masklets: set[str] = set()
    for annotation in record.annotations.values():
        if isinstance(annotation, LabelImage):
            yield annotation.path
        elif isinstance(annotation, ObjectImages):
            yield from sorted(annotation.paths.values())
        elif isinstance(annotation, MaskletFrame):
            masklets.update(annotation.paths)
    yield from sorted(masklets)
