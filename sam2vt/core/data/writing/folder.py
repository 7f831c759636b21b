"""Write the folder of a conversion, which appears when it is complete and can be resumed, and its files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sam2vt.core.data.formats.frame_order import frame_order
from sam2vt.core.data.formats.listing import stem
from sam2vt.core.data.writing.encoding import Encoding, encoded_frames, has_images, image_suffix
from sam2vt.core.storage.disk import new_folder, unreadable, unwritable, write_whole
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError, Sam2vtError

_DONE = ".converted"  # what is converted, then a line per video that is done
_SUFFIX = ".converting"
_NOT_IN_NAMES = '/\\:\0"*?<>|'


class WorkFolder:
    """The temporary folder, beside the folder that it becomes."""

    def __init__(self, path: Path, done: set[str]) -> None:
        self.path, self._done = path, done
        self.is_used = bool(done)

    def is_done(self, video: str) -> bool:
        return video in self._done

    def finish(self, video: str) -> None:
        """Store that all files of a video are written."""
        with (self.path / _DONE).open("a") as file:
            file.write(json.dumps(video) + "\n")
        self.is_used = True


@contextmanager
def work_folder(out: str, what: str) -> Iterator[WorkFolder]:
    """Open a folder that is renamed to `out` if the block succeeds; `what` identifies data and options.

    If the block raises an error of this package, nothing is left unless a video is done. Raises DataError if
    `out` is not empty, or if the work of another conversion is beside it.
    """
    target = Path(os.path.abspath(os.path.expanduser(out)))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} is not an empty folder; choose another, or remove it first")
    # On the same file system, so that the rename at the end is one step.
    work = target.with_name(target.name + _SUFFIX)
    try:
        with new_folder(target.parent):
            opened = WorkFolder(work, _begin(work, what))
            try:
                yield opened
            except Sam2vtError:
                if not opened.is_used:
                    shutil.rmtree(work, ignore_errors=True)
                raise
            if target.exists():
                target.rmdir()
            work.rename(target)
            (target / _DONE).unlink()
    except OSError as error:
        raise _refused(work, error) from None


def _refused(work: Path, error: OSError) -> DataError:
    """Return what could not be read or written: a copy's error names its source, or source and target."""
    if error.filename is None or error.filename2 is not None:
        return unwritable(work, error)
    named = Path(error.filename)
    is_ours = work in (named, *named.parents) or named in work.parents
    return unwritable(work, error) if is_ours else unreadable(named, error)


def _begin(work: Path, what: str) -> set[str]:
    """Return the videos that an earlier call has finished."""
    if not work.exists() or not any(work.iterdir()):
        work.mkdir(parents=True, exist_ok=True)
        write_file(work / _DONE, (what + "\n").encode())
        return set()
    first, *lines = _lines(work / _DONE) or [""]
    if first != what + "\n":
        raise DataError(
            f"{work}: holds the unfinished work of another conversion, or of data that has changed since; "
            "remove the folder"
        )
    whole = [line for line in lines if line.endswith("\n")]
    write_file(work / _DONE, "".join([first, *whole]).encode())  # without the line that a kill cut
    try:
        return {str(json.loads(line)) for line in whole}
    except ValueError as error:
        raise DataError(f"{work / _DONE}: is damaged: {error}; remove {work} and convert again") from None


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines(keepends=True) if path.is_file() else []


def write_file(path: Path, content: bytes) -> None:
    """Write a file completely or not at all, and create the folders above it."""
    with write_whole(path) as written:
        written.write_bytes(content)


def folder_names(video_ids: Iterable[str]) -> dict[str, str]:
    """Return video id -> a name that a file or folder may have. Raises DataError if two become the
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
    """Return the names of the frames without endings: those of their files, else their indices.

    Names that do not sort in the order of the frames, or are not unique, become indices too.
    """
    stems = [stem(os.path.basename(path)) for path in record.frame_paths or ()]
    # Readers sort by name: other names would put the frames in another order, or be refused.
    with suppress(DataError):
        if stems and len(set(stems)) == len(stems) and frame_order(stems, "") == list(range(len(stems))):
            return stems
    return [f"{index:05d}" for index in range(record.num_frames)]


def write_frames(
    record: VideoRecord, folder: Path, stems: list[str], encoding: Encoding, link: bool
) -> list[str]:
    """Return the names of the files written, an image per frame; with `link` hard links where possible.

    Frames of 16 bits become PNGs of 8 bits, as in training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if link and record.frame_paths is not None and record.intensity_range is None:
        files = [f"{name}{Path(path).suffix.lower()}" for name, path in zip(stems, record.frame_paths)]
        for path, file in zip(record.frame_paths, files):
            link_or_copy(path, folder / file, link)
        return files
    if has_images(record):
        encoding = Encoding("keep" if record.intensity_range is None else "png")
    files = []
    for name, data in zip(stems, encoded_frames(record, range(record.num_frames), encoding), strict=True):
        files.append(name + image_suffix(data))
        write_file(folder / files[-1], data)
    return files


def link_or_copy(source: str, path: Path, link: bool) -> None:
    """Make a hard link if it is wanted and the file system supports it, else a copy."""
    with write_whole(path) as written:
        if link:
            try:
                os.link(os.path.realpath(source), written)
                return
            except OSError:  # another file system, or one without links
                pass
        shutil.copyfile(source, written)
