"""The folder of a conversion: it appears when it is complete, and goes on where it was stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sam2vt.core.storage.disk import unreadable, unwritable, write_whole
from sam2vt.errors import DataError

_DONE = ".converted"  # what is converted, then a line a video that is done
_SUFFIX = ".converting"


class WorkFolder:
    """Beside the folder that it becomes."""

    def __init__(self, path: Path, done: set[str]) -> None:
        self.path, self._done = path, done

    def is_done(self, video: str) -> bool:
        return video in self._done

    def finish(self, video: str) -> None:
        """Note that all files of a video are written."""
        with (self.path / _DONE).open("a") as file:
            file.write(json.dumps(video) + "\n")


@contextmanager
def work_folder(out: str, what: str) -> Iterator[WorkFolder]:
    """Open a folder that is renamed to `out` when the block ends well; `what` tells data and options apart.

    Raises DataError where `out` has something in it, or where the work of another conversion lies beside it.
    """
    target = Path(os.path.abspath(os.path.expanduser(out)))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} is not an empty folder; choose another, or remove it first")
    # On the same file system, so that the rename at the end is one step.
    work = target.with_name(target.name + _SUFFIX)
    try:
        yield WorkFolder(work, _begin(work, what))
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
    """Write a file whole or not at all, with the folders above it."""
    with write_whole(path) as written:
        written.write_bytes(content)
