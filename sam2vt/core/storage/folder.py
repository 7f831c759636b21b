"""The files of a checkpoint store: a local folder, or one that pyarrow.fs reaches."""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from pyarrow import fs

CHUNK_BYTES = 1 << 22
UNFINISHED = ".writing"  # ends the name of a file that is still being written


class Files(Protocol):
    """Named files in one folder. Every method raises OSError where the storage fails."""

    def sizes(self) -> dict[str, int]:
        """Bytes of each file; {} where there is no folder yet."""

    def put(self, local: Path, name: str) -> None:
        """Move a local file here, in place of one of that name."""

    def write(self, name: str, content: bytes) -> None:
        """Write a small file as a whole: nobody reads half of it."""

    def read(self, name: str) -> bytes: ...

    def sha256(self, name: str) -> str: ...

    def alias(self, name: str, alias: str) -> None:
        """Let `alias` have the content that `name` has now, also once `name` is deleted."""

    def delete(self, name: str) -> None:
        """A file that is not there is no error."""

    def address(self, name: str) -> str:
        """Local path or URI."""


class LocalFiles:
    """A folder on this machine or on a mount; aliases are hard links where the filesystem has them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def sizes(self) -> dict[str, int]:
        if not self.root.is_dir():
            return {}
        return {entry.name: entry.stat().st_size for entry in os.scandir(self.root) if entry.is_file()}

    def put(self, local: Path, name: str) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        _sync(local)
        try:
            os.replace(local, self.root / name)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._replace_by_copy(local, name)
            local.unlink()

    def write(self, name: str, content: bytes) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        temporary = self._temporary(name)
        temporary.write_bytes(content)
        _sync(temporary)
        os.replace(temporary, self.root / name)

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def sha256(self, name: str) -> str:
        return file_sha256(self.root / name)

    def alias(self, name: str, alias: str) -> None:
        temporary = self._temporary(alias)
        temporary.unlink(missing_ok=True)
        try:
            os.link(self.root / name, temporary)
        except OSError:  # a filesystem without links
            self._replace_by_copy(self.root / name, alias)
            return
        os.replace(temporary, self.root / alias)
        temporary.unlink(missing_ok=True)  # renaming a link onto another of the same file does nothing

    def delete(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def address(self, name: str) -> str:
        return str(self.root / name)

    def _replace_by_copy(self, source: Path, name: str) -> None:
        temporary = self._temporary(name)
        shutil.copyfile(source, temporary)
        _sync(temporary)
        os.replace(temporary, self.root / name)

    def _temporary(self, name: str) -> Path:
        return self.root / f".{name}{UNFINISHED}"


class RemoteFiles:
    """A folder of any pyarrow filesystem, where writing a small file and copying are single requests."""

    def __init__(self, filesystem: fs.FileSystem, folder: str, root: str) -> None:
        self.filesystem = filesystem
        self.folder = folder
        self.root = root

    def sizes(self) -> dict[str, int]:
        found = self.filesystem.get_file_info(fs.FileSelector(self.folder, allow_not_found=True))
        return {info.base_name: info.size for info in found if info.type == fs.FileType.File}

    def put(self, local: Path, name: str) -> None:
        self.filesystem.create_dir(self.folder, recursive=True)
        with local.open("rb") as source, self.filesystem.open_output_stream(self._path(name)) as sink:
            while chunk := source.read(CHUNK_BYTES):
                sink.write(chunk)
        size, wanted = self.filesystem.get_file_info(self._path(name)).size, local.stat().st_size
        if size != wanted:
            raise OSError(f"{self.address(name)}: {size} bytes arrived of {wanted}")
        local.unlink()

    def write(self, name: str, content: bytes) -> None:
        self.filesystem.create_dir(self.folder, recursive=True)
        with self.filesystem.open_output_stream(self._path(name)) as sink:
            sink.write(content)

    def read(self, name: str) -> bytes:
        return b"".join(self._chunks(name))

    def sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        for chunk in self._chunks(name):
            digest.update(chunk)
        return digest.hexdigest()

    def alias(self, name: str, alias: str) -> None:
        self.filesystem.copy_file(self._path(name), self._path(alias))

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self.filesystem.delete_file(self._path(name))

    def address(self, name: str) -> str:
        return posixpath.join(self.root, name)

    def _path(self, name: str) -> str:
        return posixpath.join(self.folder, name)

    def _chunks(self, name: str) -> Iterator[bytes]:
        with self.filesystem.open_input_stream(self._path(name)) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk


def open_files(root: str, filesystem: Any = None) -> Files:
    """The folder `root`: a local path, a URI, or a path of the pyarrow `filesystem` that is given."""
    if filesystem is not None:
        return RemoteFiles(filesystem, root, root)
    if "://" not in root:
        return LocalFiles(Path(root).expanduser())
    found, folder = fs.FileSystem.from_uri(root)
    if isinstance(found, fs.LocalFileSystem):
        return LocalFiles(Path(folder))
    return RemoteFiles(found, folder, root)


def file_sha256(path: str | Path) -> str:
    """The SHA-256 of a local file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Have the file on the disk before it gets the name by which it counts as written."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
