"""What the disk refuses, as errors that say what to do about it."""

from __future__ import annotations

import errno
import os
import shutil

from sam2vt.errors import DataError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM)


def unreadable(path: str | os.PathLike[str], error: OSError) -> DataError:
    """Of a file or folder that is there."""
    reason = error.strerror or error
    if error.errno in _FORBIDDEN:
        remedy = "allow your user to read it (ls -ld shows who may), or run as one who may"
    elif error.errno == errno.ENOENT:
        remedy = "restore it"
    else:
        remedy = "copy it again, or look after the disk it lies on"
    path = os.fspath(path)
    return DataError(f"{path}: cannot be read: {reason}; {remedy}", file=path)


def unwritable(path: str | os.PathLike[str], error: OSError) -> DataError:
    reason = error.strerror or error
    return DataError(f"{os.fspath(path)}: cannot be written: {reason}; {remedy_of_writing(path, error)}")


def remedy_of_writing(path: str | os.PathLike[str], error: OSError) -> str:
    """What to do where a file or folder on this machine cannot be written."""
    if error.errno in _FULL:
        return f"{_free(path)}free some space there, or choose a folder on another disk"
    return "choose a folder that your user may write to"


def _free(path: str | os.PathLike[str]) -> str:
    """How many bytes the disk still takes, for a sentence."""
    folder = os.path.abspath(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return f"{shutil.disk_usage(folder).free} bytes are left on its disk: "
