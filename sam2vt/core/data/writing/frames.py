"""Frames of a record as files: image files stay as they are, those of videos become images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from sam2vt.core.data.formats.listing import natural_key, stem
from sam2vt.core.data.writing.encoding import Encoding, encoded_frames, has_images, image_suffix, kept_images
from sam2vt.core.data.writing.folder import write_file
from sam2vt.core.storage.disk import write_whole
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

_NOT_IN_NAMES = '/\\:\0"*?<>|'


def folder_names(video_ids: Iterable[str]) -> dict[str, str]:
    """Return video id -> a name that a file or folder may have. Raises DataError where two become the
    same.
    """
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for video_id in video_ids:
        name = "".join("_" if each in _NOT_IN_NAMES else each for each in video_id) or "_"
        # Hidden folders are passed over when the dataset is read.
        name = f"_{name[1:]}" if name.startswith(".") else name
        if name in owners:
            raise DataError(
                f"two videos would be written as {name}: {owners[name]} and {video_id}; rename one"
            )
        names[video_id], owners[name] = name, video_id
    return names


def frame_stems(record: VideoRecord) -> list[str]:
    """Return the names of the frames without their endings: those of their files, else their indices.

    Names that do not sort in the order of the frames, or are not all different, become indices, too.
    """
    stems = [stem(os.path.basename(path)) for path in record.frame_paths or ()]
    # Readers sort by name: other names would put the frames in another order.
    if stems and len(set(stems)) == len(stems) and sorted(stems, key=natural_key) == stems:
        return stems
    return [f"{index:05d}" for index in range(record.num_frames)]


def write_frames(
    record: VideoRecord, folder: Path, stems: list[str], encoding: Encoding, link: bool
) -> list[str]:
    """Return the names of the files written, an image a frame; with `link` hard links where that is possible.

    Frames of 16 bits become PNGs of 8 bits, as a training sees them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not has_images(record) or record.intensity_range is not None:
        encoding = encoding if not has_images(record) else Encoding("png")
        frames = encoded_frames(record, range(record.num_frames), encoding)
        return [
            _write(folder, name + encoding.suffix, data) for name, data in zip(stems, frames, strict=True)
        ]
    if record.frame_paths is None or not link:
        images = kept_images(record, range(record.num_frames))
        return [
            _write(folder, name + image_suffix(data), data) for name, data in zip(stems, images, strict=True)
        ]
    return [
        _link(path, folder, name + os.path.splitext(path)[1].lower())
        for name, path in zip(stems, record.frame_paths, strict=True)
    ]


def link_or_copy(source: str, path: Path, link: bool) -> None:
    """Make a hard link where it is wanted and the file system has it, else a copy."""
    with write_whole(path) as written:
        if link:
            try:
                os.link(os.path.realpath(source), written)
                return
            except OSError:  # another file system, or one without links
                pass
        shutil.copyfile(source, written)


def _write(folder: Path, name: str, data: bytes) -> str:
    write_file(folder / name, data)
    return name


def _link(source: str, folder: Path, name: str) -> str:
    link_or_copy(source, folder / name, link=True)
    return name
