"""Files are replaced whole, and what a disk refuses comes with a remedy."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from sam2vt.core.storage.disk import file_sha256, locked, unreadable, unwritable, write_whole


@pytest.mark.parametrize("options", [{}, {"private": True}, {"keep_suffix": True}, {"sync": True}])
def test_a_file_has_the_old_content_until_it_has_the_new(tmp_path: Path, options: dict[str, bool]) -> None:
    path = tmp_path / "run" / "a.csv"
    for content in ("old", "new"):
        with write_whole(path, **options) as written:
            assert written.parent == path.parent
            assert (written.suffix == ".csv") == ("keep_suffix" in options)
            assert written.name.startswith(".a.csv")
            written.write_text(content)
            assert path.exists() == (content == "new")
        assert path.read_text() == content
    assert os.listdir(path.parent) == ["a.csv"]


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")

    def fail(error: type[BaseException]) -> None:
        with write_whole(tmp_path / "a") as written:
            written.write_text("half")
            raise error

    for error in (KeyboardInterrupt, OSError):
        with pytest.raises(error):
            fail(error)
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_two_may_write_the_same_file_privately(tmp_path: Path) -> None:
    with write_whole(tmp_path / "a", private=True) as one, write_whole(tmp_path / "a", private=True) as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert (tmp_path / "a").read_text() == "one"
    assert os.listdir(tmp_path) == ["a"]


def test_a_link_that_a_killed_process_left_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "source").write_text("mine")
    os.link(tmp_path / "source", tmp_path / ".a.writing")
    with write_whole(tmp_path / "a") as written:
        written.write_text("new")
    assert (tmp_path / "source").read_text() == "mine"


def test_a_file_that_is_linked_onto_itself_leaves_no_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    with write_whole(tmp_path / "a") as written:
        os.link(tmp_path / "a", written)
    assert os.listdir(tmp_path) == ["a"]


def test_a_checksum_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"content").hexdigest()


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "allow your user to"),
        (errno.ENOENT, "restore it"),
        (errno.EIO, "copy it again"),
    ],
)
def test_what_cannot_be_read_comes_with_a_remedy(number: int, remedy: str) -> None:
    error = unreadable("/data/a.png", OSError(number, os.strerror(number)))
    assert str(error).startswith(f"/data/a.png: cannot be read: {os.strerror(number)}; {remedy}")
    assert error.place["file"] == "/data/a.png"


def test_what_cannot_be_written_comes_with_a_remedy(tmp_path: Path) -> None:
    assert "may write to" in str(unwritable(tmp_path, OSError(errno.EACCES, "denied")))
    full = str(unwritable(tmp_path / "not" / "there", OSError(errno.ENOSPC, "No space left")))
    assert "bytes are left on its disk: free some space there" in full


def test_a_lock_empties_no_file_that_it_is_a_link_to(tmp_path: Path) -> None:
    """As in a run's folder that somebody else has written."""
    own = tmp_path / "own"
    own.write_text("mine")
    lock = tmp_path / "run" / ".lock"
    lock.parent.mkdir()
    lock.symlink_to(own)
    with (
        locked(lock, RuntimeError("taken")),
        pytest.raises(RuntimeError, match="taken"),
        locked(lock, RuntimeError("taken")),
    ):
        pass
    assert own.read_text() == "mine"
    assert not lock.exists()
