"""Local paths and URIs alike: find the filesystem, copy and write single files."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import Any

from pyarrow import fs

from sam2vt.errors import DataError


def locate(path: str) -> tuple[Any, str]:
    """(filesystem of pyarrow, path on it) of a local path or a URI. Raises DataError."""
    from pyarrow import fs

    try:
        return fs.FileSystem.from_uri(path if "://" in path else os.path.abspath(os.path.expanduser(path)))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be reached: {error}; allowed are paths, and URIs such as s3://bucket/folder "
            "that you may use"
        ) from None


def download(path: str, local: str | Path) -> None:
    """Copy a file at a local path or URI to `local`."""
    filesystem, inner = open_path(path)
    fs.copy_files(
        inner, str(local), source_filesystem=filesystem, destination_filesystem=fs.LocalFileSystem()
    )


def open_path(path: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a local path or URI, and the path inside it."""
    return fs.FileSystem.from_uri(path if "://" in path else str(Path(path).absolute()))


def write_small_file(path: str) -> None:
    """Write a small file at a local path or URI, with the folders above it."""
    filesystem, inner = open_path(path)
    filesystem.create_dir(posixpath.dirname(inner), recursive=True)
    with filesystem.open_output_stream(inner) as stream:
        stream.write(b"sam2vt")
