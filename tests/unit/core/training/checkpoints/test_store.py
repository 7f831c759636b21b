"""What a store keeps, what it takes for a checkpoint, and what it does where the storage fails."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from sam2vt.core.training.checkpoints.store import CheckpointInfo, CheckpointManifest, CheckpointStore
from sam2vt.errors import CheckpointError


def put(store: CheckpointStore, folder: Path, step: int, score: float | None = None) -> CheckpointManifest:
    local = folder / "state"
    local.write_bytes(f"state of step {step}".encode())
    info = CheckpointInfo(step, 0, 2 * step, 1, "interval" if score is None else "validation", score)
    return store.put(local, info)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["local", "uri", "filesystem"])
def store(request, tmp_path) -> CheckpointStore:
    """The same folder `checkpoints`, reached as a path, a URI and through pyarrow's own filesystem."""
    folder = tmp_path / "checkpoints"
    if request.param == "filesystem":
        return CheckpointStore(str(folder), filesystem=fs.LocalFileSystem(), pauses=())
    return CheckpointStore(folder.as_uri() if request.param == "uri" else str(folder), pauses=())


def test_keeps_the_two_newest_and_the_best(store, tmp_path) -> None:
    for step, score in ((2, 0.3), (4, 0.9), (6, 0.9), (8, 0.1), (10, None)):
        put(store, tmp_path, step, score)
    kept = [f"step_{step:08d}.{end}" for step in (4, 8, 10) for end in ("ckpt", "json")]
    folder = tmp_path / "checkpoints"
    assert names(folder) == ["best.ckpt", "last.ckpt", *kept]
    assert (folder / "best.ckpt").read_bytes() == b"state of step 4"  # the earlier of equals
    assert (folder / "last.ckpt").read_bytes() == b"state of step 10"
    assert not (tmp_path / "state").exists()
    newest = store.newest()
    assert (newest.step, newest.samples_seen, newest.reason) == (10, 20, "interval")
    assert store.path(newest).endswith("/checkpoints/step_00000010.ckpt")


def test_an_adapter_file_stays_and_goes_with_its_checkpoint(store, tmp_path) -> None:
    folder = tmp_path / "checkpoints"
    for step, score in ((2, 0.9), (4, None), (6, None), (8, None)):
        (tmp_path / "adapter").write_text(f"adapter of step {step}")
        (tmp_path / "state").write_text("state")
        info = CheckpointInfo(step, 0, 2 * step, 1, "validation", score)
        store.put(tmp_path / "state", info, tmp_path / "adapter")
    kept = [f"step_{step:08d}.{end}" for step in (2, 6, 8) for end in ("ckpt", "json", "safetensors")]
    aliases = [f"{alias}.{end}" for alias in ("best", "last") for end in ("ckpt", "safetensors")]
    assert names(folder) == sorted([*aliases, *kept])
    assert (folder / "best.safetensors").read_text() == "adapter of step 2"
    assert (folder / "last.safetensors").read_text() == "adapter of step 8"
    assert store.newest().step == 8
    store.discard_after(6)
    assert not list(folder.glob("step_00000008*"))


def test_the_best_is_the_earliest_of_the_highest_score(store, tmp_path) -> None:
    assert store.best() is None
    put(store, tmp_path, 1)
    assert store.best() is None
    for step, score in ((2, 0.3), (4, 0.9), (6, 0.9), (8, float("nan"))):
        put(store, tmp_path, step, score)
    assert store.best().step == 4


def test_keeps_as_many_of_the_best_as_asked(tmp_path) -> None:
    store = CheckpointStore(str(tmp_path / "checkpoints"), keep_best=2, keep_newest=1, pauses=())
    for step, score in enumerate((0.5, 0.7, 0.6, 0.2, 0.1), start=1):
        put(store, tmp_path, step, score)
    assert [manifest.step for manifest in store.manifests()] == [2, 3, 5]


def test_names_are_links_where_the_filesystem_has_them_and_copies_elsewhere(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "checkpoints"
    store = CheckpointStore(str(folder), pauses=())
    newest = put(store, tmp_path, 1, 0.5)
    assert os.stat(folder / "last.ckpt").st_nlink == 3  # its own name, best and last
    put(store, tmp_path, 2)
    assert (folder / "last.ckpt").samefile(folder / "step_00000002.ckpt")

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    newest = put(store, tmp_path, 3)
    assert (folder / "last.ckpt").read_bytes() == Path(store.path(newest)).read_bytes()
    assert os.stat(folder / "last.ckpt").st_nlink == 1
    assert not [name for name in names(folder) if name.endswith(".writing")]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(bytes(content))


DAMAGES: dict[str, Any] = {
    "sha256": lambda ckpt, manifest: flip(ckpt),
    "7 bytes of": lambda ckpt, manifest: os.truncate(ckpt, 7),
    "is missing": lambda ckpt, manifest: ckpt.unlink(),
    "its writing was not finished": lambda ckpt, manifest: manifest.unlink(),
    "its manifest is damaged": lambda ckpt, manifest: os.truncate(manifest, 30),
}


@pytest.mark.parametrize("reason", DAMAGES)
def test_what_is_damaged_is_said_and_left_out(store, tmp_path, caplog, reason) -> None:
    for step in (1, 2, 3):
        put(store, tmp_path, step)
    newest = tmp_path / "checkpoints" / "step_00000003.ckpt"
    DAMAGES[reason](newest, newest.with_suffix(".json"))
    with caplog.at_level(logging.WARNING):
        assert store.newest().step == 2
    (message,) = caplog.messages
    assert "step_00000003" in message
    assert reason in message


def test_nothing_intact_is_none(store, tmp_path) -> None:
    assert store.newest() is None
    assert not store.holds_any()
    put(store, tmp_path, 1)
    flip(tmp_path / "checkpoints" / "step_00000001.ckpt")
    assert store.newest() is None
    assert store.holds_any()


def test_the_next_put_removes_orphans_but_no_file_of_others(store, tmp_path) -> None:
    put(store, tmp_path, 1)
    folder = tmp_path / "checkpoints"
    (folder / "step_00000001.json").unlink()
    (folder / ".step_00000002.ckpt.writing").write_bytes(b"half")
    (folder / "notes.txt").write_text("mine")
    (folder / ".results.csv.writing").write_text("step,")  # what writes it may be in the midst of it
    put(store, tmp_path, 2)
    assert names(folder) == [
        ".results.csv.writing",
        "last.ckpt",
        "notes.txt",
        "step_00000002.ckpt",
        "step_00000002.json",
    ]


def test_a_step_put_again_never_overwrites_itself(store, tmp_path, monkeypatch) -> None:
    folder, first = tmp_path / "checkpoints", put(store, tmp_path, 5)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store._folder, "write", die)  # after the checkpoint, before its manifest
        with pytest.raises(KeyboardInterrupt):
            put(store, tmp_path, 5, 0.5)
    assert store.newest() == first
    for number in (2, 3):
        again = put(store, tmp_path, 5, 0.5)
        assert again.file == f"step_00000005-{number}.ckpt"
        assert store.newest() == again
        assert names(folder) == ["best.ckpt", "last.ckpt", again.file, again.name]


def test_going_on_from_an_earlier_step_leaves_the_later_ones_behind(store, tmp_path) -> None:
    for step, score in ((1, 0.1), (2, 0.2), (3, 0.9)):
        put(store, tmp_path, step, score)
    store.discard_after(2)
    assert [manifest.step for manifest in store.manifests()] == [2]
    put(store, tmp_path, 1, 0.05)
    assert store.newest() == store.describe("best.ckpt") == store.manifests()[0]
    assert store.newest().score == 0.05


class Faulty(fs.FileSystemHandler):
    """A local filesystem whose writes fail with these errors, one each; `full`: all, after some bytes."""

    def __init__(self, errors: list[OSError], full: bool = False) -> None:
        self.errors = errors
        self.full = full
        self.writes = 0
        self._inner = fs.LocalFileSystem()

    def __eq__(self, other: object) -> bool:
        return self is other

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        self.writes += 1
        if self.errors:
            raise self.errors.pop(0)
        stream = self._inner.open_output_stream(path)
        if self.full:
            stream.write(b"stat")
            stream.close()
            raise OSError(errno.ENOSPC, "No space left on device")
        return stream

    def get_type_name(self) -> str:
        return "faulty"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> Any:
        return self._inner.get_file_info(paths)

    def get_file_info_selector(self, selector: fs.FileSelector) -> Any:
        return self._inner.get_file_info(selector)

    def create_dir(self, path: str, recursive: bool) -> None:
        self._inner.create_dir(path, recursive=recursive)

    def delete_file(self, path: str) -> None:
        self._inner.delete_file(path)

    def copy_file(self, src: str, dest: str) -> None:
        self._inner.copy_file(src, dest)

    def open_input_stream(self, path: str) -> Any:
        return self._inner.open_input_stream(path)

    def delete_dir(self, path: str) -> None:
        raise NotImplementedError

    delete_dir_contents = delete_root_dir_contents = open_input_file = delete_dir
    move = open_append_stream = delete_dir


def faulty_store(folder: Path, handler: Faulty) -> CheckpointStore:
    return CheckpointStore(str(folder), filesystem=fs.PyFileSystem(handler), pauses=(0.0, 0.0))


def test_a_storage_that_fails_twice_is_tried_a_third_time(tmp_path) -> None:
    handler = Faulty([OSError("first"), OSError("second")])
    store = faulty_store(tmp_path / "checkpoints", handler)
    put(store, tmp_path, 1)
    assert handler.writes == 4  # three for the checkpoint, one for its manifest
    assert store.newest().step == 1


@pytest.mark.parametrize(
    "fault",
    [{"errors": [PermissionError(errno.EACCES, "read-only")] * 3}, {"errors": [], "full": True}],
    ids=["refuses", "full"],
)
def test_a_storage_that_keeps_failing_leaves_the_last_good_checkpoint(tmp_path, fault) -> None:
    folder = tmp_path / "checkpoints"
    good = put(faulty_store(folder, Faulty([])), tmp_path, 1)
    handler = Faulty(**fault)
    with pytest.raises(OSError, match="read-only|No space left"):
        put(faulty_store(folder, handler), tmp_path, 2)
    assert handler.writes == 3
    assert faulty_store(folder, Faulty([])).newest() == good
    assert (folder / "last.ckpt").read_bytes() == b"state of step 1"


def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_none(tmp_path, monkeypatch) -> None:
    store = CheckpointStore(str(tmp_path / "checkpoints"), pauses=())
    put(store, tmp_path, 1)

    def fail(name: str) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(store._folder, "sha256", fail)
    with pytest.raises(CheckpointError, match=r"step_00000001.*Input/output error"):
        store.newest()


def test_a_manifest_is_readable_json(store, tmp_path) -> None:
    manifest = put(store, tmp_path, 7, 0.25)
    content = json.loads((tmp_path / "checkpoints" / "step_00000007.json").read_text())
    assert content["score"] == 0.25
    assert content["file"] == "step_00000007.ckpt"
    assert content["size"] == len(b"state of step 7")
    assert CheckpointManifest(**content) == manifest
