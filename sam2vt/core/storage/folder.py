"""Read and write one folder of files, local or at a URI; files appear when they are complete."""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyarrow import fs

from sam2vt.core.storage.disk import CHUNK_BYTES, move, remedy_of_writing, sha256_of, write_whole

IS_FOLDER = -1  # instead of a file's bytes


def locate(path: str) -> tuple[fs.FileSystem, str]:
    """Return pyarrow's filesystem of a local path or URI, and the path on it. Raises OSError."""
    try:
        return fs.FileSystem.from_uri(path if "://" in path else os.path.abspath(os.path.expanduser(path)))
    # A scheme nobody knows is a ValueError, one that this pyarrow was built without a NotImplementedError.
    except (OSError, ValueError, NotImplementedError) as error:
        raise OSError(
            f"{path}: cannot be reached: {error}; allowed are paths, and URIs such as s3://bucket/folder "
            "that you may use"
        ) from None


def download(path: str, local: str | Path) -> None:
    """Copy the file at a local path or URI to `local`. Raises OSError."""
    filesystem, inner = locate(path)
    with filesystem.open_input_stream(inner) as source, open(local, "wb") as sink:
        shutil.copyfileobj(source, sink, CHUNK_BYTES)


class Folder:
    """Named files of one folder; the folder is created by the first write.

    `root` is a local path, a URI, or a path on the given pyarrow `filesystem`. A local file is written beside
    its place, synced to the disk and renamed; a remote object appears when its upload is complete. Every
    method raises OSError if the storage fails, or the error class `raises` with the folder, the reason and a
    remedy.
    """

    def __init__(
        self, root: str, filesystem: fs.FileSystem | None = None, raises: type[Exception] | None = None
    ) -> None:
        self._raises = raises
        if filesystem is None:
            with self._told(None):
                self._filesystem, self._inner = locate(root)
            self._local = Path(self._inner) if isinstance(self._filesystem, fs.LocalFileSystem) else None
        else:
            self._filesystem, self._inner, self._local = filesystem, root, None
        # As the user wrote a URI: it becomes part of records and of the names of cached features.
        self.root = root.rstrip("/") if "://" in root else self._inner

    @property
    def is_local(self) -> bool:
        """Return whether the folder is on this machine or mounted there."""
        return self._local is not None

    def sizes(self) -> dict[str, int]:
        """Return name -> bytes of the files, IS_FOLDER for folders; {} if the folder does not exist."""
        with self._told("cannot be listed"):
            if self._filesystem.get_file_info(self._inner).is_file:
                raise (self._raises or NotADirectoryError)(f"{self.root} is a file; choose a folder")
            found = self._filesystem.get_file_info(fs.FileSelector(self._inner, allow_not_found=True))
        return {each.base_name: each.size if each.is_file else IS_FOLDER for each in found}

    def has(self, *names: str) -> set[str]:
        """Return which of these files exist."""
        return {name for name, (size, _) in zip(names, self.sizes_and_times(*names)) if size is not None}

    def sizes_and_times(self, *names: str) -> list[tuple[int | None, int | None]]:
        """Return (bytes, time of the last change in ns) of each file; None for both if it is missing."""
        with self._told("cannot be reached"):
            found = self._filesystem.get_file_info([self._at(name) for name in names])
        return [(each.size, each.mtime_ns) for each in found]

    def address(self, name: str) -> str:
        """Return the local path or the URI of a file."""
        # A path also for file:// URIs: Lightning and torch open it without a copy.
        return posixpath.join(self.root if self._local is None else str(self._local), name)

    def open(self, name: str) -> Any:
        """Open a pyarrow file for reading at any position. Raises OSError, whatever `raises` is."""
        return self._filesystem.open_input_file(self._at(name))

    def read(self, name: str) -> bytes:
        """Return the whole content of a file."""
        with self._reading(name) as stream:
            return stream.read()

    def fetch(self, name: str, local: str | Path) -> None:
        """Copy a file to a local path, in constant memory."""
        with self._reading(name) as source, open(local, "wb") as sink:
            shutil.copyfileobj(source, sink, CHUNK_BYTES)

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of a file in hexadecimal, read in constant memory."""
        with self._reading(name) as stream:
            return sha256_of(stream)

    def write(self, name: str, content: bytes) -> None:
        """Write a complete file; one of the same name is replaced."""
        with self.create(name) as file:
            file.write(content)

    @contextmanager
    def create(self, name: str, private: bool = False) -> Iterator[Counted]:
        """Yield a file to write, which gets its name when the block ends without an error.

        Until then it is `private` if other processes may write the same file.
        """
        with self._told(f"{name} cannot be written", writes=True):
            if self._local is not None:
                with (
                    write_whole(self._local / name, sync=True, private=private) as written,
                    written.open("wb") as file,
                ):
                    yield Counted(file)
                return
            self._filesystem.create_dir(self._inner, recursive=True)
            stream = self._filesystem.open_output_stream(self._at(name))
            try:
                with stream:
                    yield Counted(stream)
            except BaseException:
                with suppress(OSError):  # closing the stream has completed the upload of half a file
                    self._filesystem.delete_file(self._at(name))
                raise

    def put(self, local: Path, name: str) -> str:
        """Move a local file here, replacing one of that name, and return its SHA-256."""
        with self._told(f"{name} cannot be written", writes=True):
            if self._local is not None:
                return move(local, self._local / name)
            # Hashed on its way: to read an object again is a second download.
            with self.create(name) as sink, local.open("rb") as source:
                shutil.copyfileobj(source, sink, CHUNK_BYTES)
            size = self._filesystem.get_file_info(self._at(name)).size
            if size != sink.num_bytes:
                raise OSError(f"{self.address(name)}: {size} bytes arrived of {sink.num_bytes}")
            local.unlink()
            return sink.sha256

    def alias(self, name: str, alias: str) -> None:
        """Give `alias` the current content of `name`, which stays even after `name` is deleted."""
        with self._told(f"{alias} cannot be written", writes=True):
            if self._local is None:  # object stores have no links; they copy without a download
                self._filesystem.copy_file(self._at(name), self._at(alias))
                return
            with write_whole(self._local / alias, sync=True) as written:
                try:
                    os.link(self._local / name, written)
                except OSError:  # a filesystem without links
                    shutil.copyfile(self._local / name, written)

    def upload(self, local: Path, name: str = "") -> None:
        """Copy a local file or folder to `name`, or a folder's content into this folder."""
        with self._told(f"{name} cannot be written", writes=True):
            target = self._at(name)
            parent = target if local.is_dir() else posixpath.dirname(target)
            self._filesystem.create_dir(parent, recursive=True)
            fs.copy_files(str(local), target, destination_filesystem=self._filesystem, use_threads=False)

    def delete(self, name: str = "") -> None:
        """Delete a file, or a folder with its content, by default this folder.

        A missing one is not an error.
        """
        path = self._at(name)
        with self._told(f"{name} cannot be deleted"), suppress(FileNotFoundError):
            is_folder = self._filesystem.get_file_info(path).type == fs.FileType.Directory
            (self._filesystem.delete_dir if is_folder else self._filesystem.delete_file)(path)

    @contextmanager
    def _reading(self, name: str) -> Iterator[Any]:
        with self._told(f"{name} cannot be read"), self._filesystem.open_input_stream(self._at(name)) as file:
            yield file

    @contextmanager
    def _told(self, what: str | None, writes: bool = False) -> Iterator[None]:
        """The one place where the storage's errors become the caller's; None: the error says it all."""
        try:
            yield
        except OSError as error:
            if self._raises is None:
                raise
            if what is None:
                raise self._raises(str(error)) from None
            remedy = "check the folder or address, and that you may use it"
            if writes and self._local is not None:
                remedy = remedy_of_writing(self._local, error)
            raise self._raises(f"{self.root}: {what}: {error}; {remedy}") from None

    def _at(self, name: str) -> str:
        return f"{self._inner}/{name}" if name else self._inner


class Counted(io.RawIOBase):
    """Passes bytes on to a stream, and counts and hashes them."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._digest, self.num_bytes = stream, hashlib.sha256(), 0

    def writable(self) -> bool:
        """Return True: io asks before it writes."""
        return True

    def write(self, content: Any) -> int:
        """Write bytes or a buffer, and return the number of bytes."""
        self._digest.update(content)
        self._stream.write(content)
        size = len(memoryview(content).cast("B"))
        self.num_bytes += size
        return size

    def tell(self) -> int:
        """Return the position, which Parquet's writer asks for."""
        return self.num_bytes

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes written so far, in hexadecimal."""
        return self._digest.hexdigest()
