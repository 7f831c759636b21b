"""Check the places that a run writes to, the limit of open files, and the address of a Ray cluster."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sam2vt.health.finding import BROKEN, NOTE, Finding

_SHM = Path("/dev/shm")
_GIB = 2**30
_LEAST_SHM, _LEAST_DISK = _GIB, 5 * _GIB  # a container has 64 MiB by default; a checkpoint takes up to 1 GiB
_LEAST_FILES = 1024
_SECONDS = 3.0


def places() -> Iterator[Finding]:
    """Yield shared memory, the working directory, the temporary folder, and the limit of open files."""
    if sys.platform == "linux":
        yield shared_memory(_SHM)
    yield _folder("here", Path.cwd(), "change to a folder that you may write to, or give output_dir=FOLDER")
    yield _folder("temporary", _temporary(), "set TMPDIR to a folder that you may write to")
    yield open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))


def shared_memory(folder: Path) -> Finding:
    """Return the size of the memory that data-loader workers and Ray pass batches through."""
    name, fix = str(folder), "docker run --shm-size=8g, or dataset.num_workers=0"
    if not folder.is_dir():
        return Finding(name, "missing: data-loader workers cannot send batches", NOTE, fix)
    size = shutil.disk_usage(folder)
    text = f"{_size(size.total)}, {_size(size.free)} free"
    if size.free < _LEAST_SHM:
        return Finding(name, f"{text}: little for the batches of data-loader workers", NOTE, fix)
    return Finding(name, text)


def _temporary() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except OSError:  # none of its candidates can be written
        return Path(os.environ.get("TMPDIR", "/tmp"))


def _folder(name: str, folder: Path, fix: str) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding(name, f"{folder} cannot be written: {error.strerror or error}", BROKEN, fix)
    text = f"{folder}, {_size(free)} free"
    if free < _LEAST_DISK:
        return Finding(name, text, NOTE, "free some space: checkpoints take up to 1 GiB each")
    return Finding(name, text)


def open_files(soft: int, hard: int) -> Finding:
    """Return the limit of open files of this process."""
    if soft == resource.RLIM_INFINITY:
        return Finding("open files", "no limit")
    most = "without limit" if hard == resource.RLIM_INFINITY else f"up to {hard}"
    if soft < _LEAST_FILES:
        return Finding("open files", f"{soft}, {most}", NOTE, "ulimit -n 65536")
    return Finding("open files", f"{soft}, {most} by ulimit -n")


def ray_cluster() -> Iterator[Finding]:
    """Yield whether the Ray cluster that RAY_ADDRESS names answers; Ray is not started."""
    address = os.environ.get("RAY_ADDRESS", "")
    if not address or address == "local":
        yield Finding("RAY_ADDRESS", "not set: Ray starts on this machine, for each run on Ray")
        return
    fix = "start it with ray start --head, correct the address, or unset RAY_ADDRESS"
    place = address
    if address == "auto":
        try:
            # Where `ray start` writes it.
            folder = Path(os.environ.get("RAY_TMPDIR", "/tmp"))
            place = (folder / "ray" / "ray_current_cluster").read_text().strip()
        except OSError:
            yield Finding("RAY_ADDRESS", "auto, and no Ray runs on this machine", BROKEN, fix)
            return
    host, _, port = place.rpartition("://")[2].partition("/")[0].rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        yield Finding("RAY_ADDRESS", f"{address}: has no port", BROKEN, "give host:port, such as head:6379")
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()
    except OSError as error:
        yield Finding("RAY_ADDRESS", f"{address} does not answer: {error.strerror or error}", BROKEN, fix)
    else:
        yield Finding("RAY_ADDRESS", f"{address} answers")


def _size(number: int) -> str:
    return f"{number / _GIB:.1f} GiB" if number >= _GIB else f"{number / 2**20:.0f} MiB"
