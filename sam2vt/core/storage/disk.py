"""Write and hash files on this machine, and explain errors of the disk."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from sam2vt.errors import DataError

UNFINISHED = ".writing"  # ends the name of a file that is still being written
ADAPTER = ".safetensors"  # ends the name of an adapter file
CHUNK_BYTES = 1 << 22
_FORBIDDEN = "allow your user to read it (ls -ld shows who may), or run as one who may"
_REMEDIES = {errno.EACCES: _FORBIDDEN, errno.EPERM: _FORBIDDEN, errno.ENOENT: "restore it"}


@contextmanager
def write_whole(
    path: Path | str, *, sync: bool = False, private: bool = False, keep_suffix: bool = False
) -> Iterator[Path]:
    """Yield a temporary path, which is renamed to `path` when the block ends without an error.

    So nobody reads half a file: `path` has the old content, then the new one. The block creates the temporary
    file, by writing or linking; an error deletes it. Folders above `path` are created. `sync` flushes the
    content to the disk before renaming. `private` gives the temporary file a unique name, for files that
    several processes may write at once. `keep_suffix` keeps the file's suffix, for writers that choose the
    format by it. Raises OSError.
    """
    path = Path(path)
    own = f".{uuid4().hex[:8]}" if private else ""
    suffix = path.suffix if keep_suffix else ""
    # Beside the target: a rename between two filesystems is not possible.
    written = path.with_name(f".{path.name}{own}{UNFINISHED}{suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    # A killed process may have left a hard link there; opened for writing, it would empty the link's source.
    written.unlink(missing_ok=True)
    try:
        yield written
        if sync:
            sync_file(written)
        os.replace(written, path)
    finally:
        # After an error it may be what fills the disk; renaming a link onto its own file leaves the link.
        written.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path | str, *, alone: bool = False) -> Iterator[Path]:
    """Yield a folder, made with those above it; if the block fails, made ones that are empty are removed.

    With `alone`, it is always a new folder, the next free one of `path`, path_2, path_3: no two processes get
    the same. Raises OSError.
    """
    path = Path(path)
    missing = [each for each in path.parents if not each.exists()]  # the innermost first
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # it names the folder above that is none
        raise type(error)(error.errno, error.strerror, str(path)) from None
    for number in count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}_{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            if alone:
                continue
            if not folder.is_dir():
                raise
        else:
            missing.insert(0, folder)
        break
    try:
        yield folder
    except BaseException:
        for each in missing:
            with suppress(OSError):  # it is in use
                each.rmdir()
        raise


@contextmanager
def locked(path: Path, taken: Exception) -> Iterator[None]:
    """Reserve a file for this process, which creates and removes it; raise `taken` if another one has it.

    A killed process leaves the file, but not its lock. Some network disks cannot lock: there nothing is held.
    Raises DataError if the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _lock(path, taken)
    except OSError as error:
        raise unwritable(path, error) from None
    # Processes that are forked meanwhile, such as data-loader workers, may outlive this one by seconds.
    os.register_at_fork(after_in_child=file.close)
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _lock(path: Path, taken: Exception) -> BinaryIO:
    while True:
        file = path.open("ab", buffering=0)  # not emptied: in a folder of another user it may be a link
        try:  # the system takes the lock back when the process ends, however it ends
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise taken from None
        except OSError:  # not every network disk can lock
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # whoever had it before has removed it since it was opened


def sync_file(path: Path) -> None:
    """Flush the file's content to the disk; otherwise a power failure after the rename could empty it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sha256_of(stream: Any) -> str:
    """Return the SHA-256 of the rest of an open file in hexadecimal, read in constant memory."""
    digest = hashlib.sha256()  # hashlib.file_digest needs Python 3.11
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a local file in hexadecimal."""
    with open(path, "rb") as file:
        return sha256_of(file)


def move(source: Path, target: Path) -> str:
    """Move a local file, even from another disk, and return its SHA-256. Raises OSError."""
    digest = file_sha256(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    sync_file(source)
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with write_whole(target, sync=True) as written:
            shutil.copyfile(source, written)
        source.unlink()
    return digest


def unreadable(path: str | os.PathLike[str], error: OSError) -> DataError:
    """Return the error to raise for a file or folder that exists and cannot be read."""
    remedy = _REMEDIES.get(error.errno or 0, "copy it again, or check the disk that it is stored on")
    path = os.fspath(path)
    return DataError(f"{path}: cannot be read: {error.strerror or error}; {remedy}", file=path)


def unwritable(path: str | os.PathLike[str], error: OSError) -> DataError:
    """Return the error to raise for a file or folder that cannot be written."""
    remedy = remedy_of_writing(path, error)
    return DataError(f"{os.fspath(path)}: cannot be written: {error.strerror or error}; {remedy}")


def remedy_of_writing(path: str | os.PathLike[str], error: OSError) -> str:
    """Return the remedy, for a message, if a local file or folder cannot be written."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return "choose a folder that your user may write to"
    folder = os.path.abspath(path)
    while not os.path.isdir(folder):  # the folder itself may not exist yet
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    return f"{free} bytes are left on its disk: free some space there, or choose a folder on another disk"
