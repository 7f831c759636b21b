"""A folder is the same whether it is local, a URI, or behind a filesystem that only pyarrow reaches."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from sam2vt.core.storage import disk
from sam2vt.core.storage import folder as folders
from sam2vt.core.storage.folder import IS_FOLDER, Folder, download
from sam2vt.errors import DataError


@pytest.fixture(params=["path", "uri", "filesystem"])
def folder(request, tmp_path: Path) -> Folder:
    """The same place on the disk, `files`, which does not exist yet."""
    root = tmp_path / "files"
    if request.param == "filesystem":
        return Folder(str(root), fs.SubTreeFileSystem("/", fs.LocalFileSystem()))
    return Folder(root.as_uri() if request.param == "uri" else str(root))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read(folder: Folder, tmp_path: Path) -> None:
    assert folder.sizes() == {}
    assert folder.has("a", "b") == set()
    folder.write("a", b"first")
    folder.write("a", b"second")
    (tmp_path / "files" / "inner").mkdir()
    assert folder.sizes() == {"a": 6, "inner": IS_FOLDER}
    assert folder.has("a", "b", "inner") == {"a"}
    assert folder.read("a") == folder.open("a").read() == b"second"
    assert folder.sha256("a") == hashlib.sha256(b"second").hexdigest()
    folder.fetch("a", tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == b"second"
    (size, time), missing = folder.sizes_and_times("a", "b")
    assert (size, missing) == (6, (None, None))
    assert time is not None
    assert names(tmp_path / "files") == ["a", "inner"]


def test_a_stream_knows_what_went_through_it(folder: Folder, tmp_path: Path) -> None:
    with folder.create("a", private=True) as file:
        file.write(b"one")
        file.write(memoryview(b"two"))
    assert (file.num_bytes, file.sha256) == (6, hashlib.sha256(b"onetwo").hexdigest())
    assert folder.read("a") == b"onetwo"
    assert names(tmp_path / "files") == ["a"]


def test_half_a_file_is_none(folder: Folder, tmp_path: Path) -> None:
    def fail() -> None:
        with folder.create("a") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path / "files") == []


def test_a_local_file_is_moved_in(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"content")
    assert folder.put(tmp_path / "local", "a") == hashlib.sha256(b"content").hexdigest()
    assert folder.read("a") == b"content"
    assert not (tmp_path / "local").exists()
    download(folder.address("a"), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"


def test_an_alias_outlives_its_file(folder: Folder, tmp_path: Path) -> None:
    folder.write("a", b"one")
    for _ in range(2):  # a second time it is the same file already
        folder.alias("a", "last")
    folder.write("b", b"two")
    folder.delete("a")
    assert (folder.read("last"), names(tmp_path / "files")) == (b"one", ["b", "last"])
    folder.alias("b", "last")
    assert folder.read("last") == b"two"


def test_files_and_folders_are_deleted(folder: Folder, tmp_path: Path) -> None:
    folder.delete("none")
    folder.delete()
    (tmp_path / "tree" / "b").mkdir(parents=True)
    (tmp_path / "tree" / "b" / "c").write_bytes(b"c")
    folder.upload(tmp_path / "tree")
    folder.upload(tmp_path / "tree" / "b" / "c", "c")
    assert folder.sizes() == {"b": IS_FOLDER, "c": 1}
    folder.delete("b")
    assert folder.sizes() == {"c": 1}
    folder.delete()
    assert not (tmp_path / "files").exists()


def test_a_file_in_its_place_is_refused(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "files").write_text("")
    with pytest.raises(NotADirectoryError, match="files is a file; choose a folder"):
        folder.sizes()
    with pytest.raises(DataError, match="is a file; choose a folder"):
        Folder(str(tmp_path / "files"), raises=DataError).sizes()
    with pytest.raises(OSError, match="files"):
        folder.write("a", b"")


def test_errors_are_the_storage_s_or_the_caller_s(folder: Folder, tmp_path: Path) -> None:
    for read in (folder.read, folder.sha256, folder.open):
        with pytest.raises(FileNotFoundError):
            read("none")
    told = Folder(str(tmp_path / "files"), raises=DataError)
    with pytest.raises(DataError, match=r"files: none cannot be read: .*; check the folder or address"):
        told.read("none")
    (tmp_path / "files").write_text("")
    with pytest.raises(DataError, match=r"files: a cannot be written: .*; choose a folder that your user"):
        told.write("a", b"")


def test_an_address_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"nowhere://a: cannot be reached: .*such as s3://bucket/folder"):
        Folder("nowhere://a")
    with pytest.raises(DataError, match=r"^nowhere://a: cannot be reached: .*that you may use$"):
        Folder("nowhere://a", raises=DataError)


def test_its_root_is_absolute_or_the_uri_as_it_was_given(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Folder("files").root == Folder("~/files").root == str(tmp_path / "files")
    assert Folder(f"file://{tmp_path}/files/").root == f"file://{tmp_path}/files"
    assert Folder(f"file://{tmp_path}/files").address("a") == str(tmp_path / "files" / "a")
    assert Folder("files").is_local


def test_from_another_disk_a_file_is_copied(tmp_path: Path, monkeypatch: Any) -> None:
    replace = os.replace

    def refuse(source: Any, target: Any) -> None:
        if Path(source).name == "local":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    (tmp_path / "local").write_bytes(b"content")
    Folder(str(tmp_path / "files")).put(tmp_path / "local", "a")
    assert names(tmp_path / "files") == ["a"]
    assert not (tmp_path / "local").exists()


def test_a_local_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: Any) -> None:
    done: list[str] = []
    replace = os.replace
    monkeypatch.setattr(disk.os, "fsync", lambda number: done.append("sync"))
    monkeypatch.setattr(folders.os, "replace", lambda *paths: (done.append("name"), replace(*paths)))
    folder = Folder(str(tmp_path / "files"))
    (tmp_path / "local").write_bytes(b"content")
    for act in (lambda: folder.write("a", b""), lambda: folder.put(tmp_path / "local", "b")):
        act()
        assert done == ["sync", "name"]
        done.clear()


def test_an_upload_that_did_not_arrive_whole_leaves_the_local_file(tmp_path: Path, monkeypatch: Any) -> None:
    folder = Folder(str(tmp_path / "files"), fs.SubTreeFileSystem("/", fs.LocalFileSystem()))
    write = folders.Counted.write

    def lose(self: folders.Counted, content: Any) -> int:
        size = write(self, content)
        self.num_bytes += 1  # than the storage has
        return size

    monkeypatch.setattr(folders.Counted, "write", lose)
    (tmp_path / "local").write_bytes(b"content")
    with pytest.raises(OSError, match="files/a: 7 bytes arrived of 8"):
        folder.put(tmp_path / "local", "a")
    assert (tmp_path / "local").exists()
