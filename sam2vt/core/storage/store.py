"""The folder that shards lie in, on this machine or behind a URI; files appear when they are whole."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from sam2vt.core.storage.disk import remedy_of_writing
from sam2vt.core.storage.paths import locate
from sam2vt.errors import DataError

_UNFINISHED = ".writing"
_READ_BYTES = 1 << 20


class Store:
    """Errors of the storage are DataErrors that name it."""

    def __init__(self, root: str) -> None:
        self._filesystem, self._folder = locate(root)
        self.root = root.rstrip("/") if "://" in root else self._folder
        self._is_local = self._filesystem.type_name == "local"

    def sizes(self) -> dict[str, int]:
        """Name -> bytes of the files in the folder, -1 of folders; empty where there is no folder.

        Raises DataError where a file stands in its place.
        """
        from pyarrow import fs

        with self._telling("cannot be listed"):
            info = self._filesystem.get_file_info(self._folder)
            if info.type == fs.FileType.File:
                raise DataError(f"{self.root} is a file; choose a folder")
            found = self._filesystem.get_file_info(fs.FileSelector(self._folder, allow_not_found=True))
        return {each.base_name: each.size if each.is_file else -1 for each in found}

    def has(self, *names: str) -> set[str]:
        """Which of these files there are."""
        with self._telling("cannot be reached"):
            found = self._filesystem.get_file_info([self._at(name) for name in names])
        return {each.base_name for each in found if each.is_file}

    def sizes_and_times(self, *names: str) -> list[tuple[int | None, int | None]]:
        """Bytes and time of the last change of each of these files, in ns; None where there is none."""
        with self._telling("cannot be reached"):
            found = self._filesystem.get_file_info([self._at(name) for name in names])
        return [(each.size, each.mtime_ns) for each in found]

    def read(self, name: str) -> bytes:
        with (
            self._telling(f"{name} cannot be read"),
            self._filesystem.open_input_stream(self._at(name)) as file,
        ):
            return file.read()

    def checksum(self, name: str) -> str:
        """SHA-256 of a file, in constant memory."""
        digest = hashlib.sha256()
        with (
            self._telling(f"{name} cannot be read"),
            self._filesystem.open_input_stream(self._at(name)) as file,
        ):
            while piece := file.read(_READ_BYTES):
                digest.update(piece)
        return digest.hexdigest()

    def write(self, name: str, content: bytes) -> None:
        with self.create(name) as file:
            file.write(content)

    @contextmanager
    def create(self, name: str, private: bool = False) -> Iterator[Counted]:
        """A file to write, which takes its name when the block ends without an error.

        Until then it is `private` where others may be writing the same.
        """
        own = f".{uuid4().hex[:8]}" if private else ""
        # An object appears when its upload is complete; a local file when it is put in place.
        written = self._at(name) + (f"{own}{_UNFINISHED}" if self._is_local else "")
        with self._telling(f"{name} cannot be written", writes=True):
            self._filesystem.create_dir(self._folder, recursive=True)
            with self._filesystem.open_output_stream(written) as stream:
                yield Counted(stream)
            if self._is_local:
                self._filesystem.move(written, self._at(name))

    def delete(self, name: str) -> None:
        with self._telling(f"{name} cannot be deleted"):
            self._filesystem.delete_file(self._at(name))

    @contextmanager
    def _telling(self, what: str, writes: bool = False) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if writes and self._is_local:
                remedy = remedy_of_writing(self._folder, error)
            else:
                remedy = "check the folder or address, and that you may use it"
            raise DataError(f"{self.root}: {what}: {error}; {remedy}") from None

    def _at(self, name: str) -> str:
        return f"{self._folder}/{name}"


class Counted(io.RawIOBase):
    """Passes bytes on, and knows how many they were and their SHA-256."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._digest, self.num_bytes = stream, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._digest.update(content)
        self._stream.write(content)
        size = len(memoryview(content).cast("B"))
        self.num_bytes += size
        return size

    def tell(self) -> int:
        return self.num_bytes

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()
