"""A filesystem that loses its process at a file of the test's choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyarrow import PythonFile, fs

Fault = Callable[[str], Any]  # takes a file's name before it is opened for writing; may return a sink


class Faulty(fs.FileSystemHandler):
    """The local filesystem, whose files are opened for writing after `fault` was asked."""

    def __init__(self, fault: Fault) -> None:
        self.local, self.fault = fs.LocalFileSystem(), fault

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        sink = self.fault(path)
        return self.local.open_output_stream(path) if sink is None else PythonFile(sink, mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        raise NotImplementedError

    def open_input_file(self, path: str) -> Any:
        return self.local.open_input_file(path)

    def open_input_stream(self, path: str) -> Any:
        return self.local.open_input_stream(path)

    def get_file_info(self, paths: Any) -> Any:
        return self.local.get_file_info(paths)

    def get_file_info_selector(self, selector: Any) -> Any:
        return self.local.get_file_info(selector)

    def copy_file(self, src: str, dest: str) -> None:
        self.local.copy_file(src, dest)

    def move(self, src: str, dest: str) -> None:
        self.local.move(src, dest)

    def create_dir(self, path: str, recursive: bool) -> None:
        self.local.create_dir(path, recursive=recursive)

    def delete_file(self, path: str) -> None:
        self.local.delete_file(path)

    def delete_dir(self, path: str) -> None:
        self.local.delete_dir(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self.local.delete_dir_contents(path, missing_dir_ok=missing_dir_ok)

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError

    def normalize_path(self, path: str) -> str:
        return path

    def get_type_name(self) -> str:
        return "faulty"

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = fs.FileSystemHandler.__hash__


class Sink:
    """A file that takes `limit` bytes of what is written, and then does `then`."""

    closed = False

    def __init__(self, path: str, limit: int, then: Callable[[], None]) -> None:
        self.file, self.room, self.then = open(path, "wb"), limit, then  # noqa: SIM115

    def write(self, data: Any) -> int:
        taken = bytes(data)[: self.room]
        self.file.write(taken)
        self.file.flush()
        self.room -= len(taken)
        if len(taken) < len(data):
            self.then()
        return len(data)

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.closed = True
        self.file.close()


def inject(fault: Fault) -> Callable[[], None]:
    """Called in a worker, has checkpoints go through a `Faulty` filesystem."""

    def install() -> None:
        from sam2vt.core.storage.folder import Folder
        from sam2vt.core.training.checkpoints import store as checkpoint_store

        def open_folder(root: str, filesystem: Any = None) -> Folder:
            return Folder(root, fs.PyFileSystem(Faulty(fault)))

        checkpoint_store.Folder = open_folder  # type: ignore[assignment,misc]

    return install
