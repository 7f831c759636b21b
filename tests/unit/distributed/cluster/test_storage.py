from __future__ import annotations

from pathlib import Path

import pytest

from sam2vt.config import Config, RayConfig
from sam2vt.core.storage.folder import download
from sam2vt.distributed.cluster.storage import RAY_FOLDER, RunStorage, check_writable, run_storage
from sam2vt.errors import ConfigError


def test_a_run_lies_in_its_output_folder_by_default(tmp_path: Path) -> None:
    assert run_storage(Config(output_dir=str(tmp_path / "runs" / "a"))).root == str(tmp_path / "runs" / "a")


def test_storage_path_and_name_hold(tmp_path: Path) -> None:
    ray = RayConfig(storage_path="s3://bucket/runs", name="b")
    storage = run_storage(Config(output_dir=str(tmp_path / "a"), ray=ray))
    assert (storage.root, storage.is_remote) == ("s3://bucket/runs/b", True)
    ray = RayConfig(storage_path=str(tmp_path))
    assert run_storage(Config(output_dir="x/a", ray=ray)) == RunStorage(str(tmp_path / "a"))


def test_uploads_files_and_folders(tmp_path: Path) -> None:
    storage = RunStorage(f"file://{tmp_path}/remote")
    (tmp_path / "run" / "overlays").mkdir(parents=True)
    (tmp_path / "run" / "overlays" / "v.png").write_bytes(b"png")
    for content in (b"one", b"two"):
        (tmp_path / "last.ckpt").write_bytes(content)
        storage.folder("checkpoints").upload(tmp_path / "last.ckpt", "last.ckpt")
    storage.folder().upload(tmp_path / "run")
    assert (tmp_path / "remote" / "checkpoints" / "last.ckpt").read_bytes() == b"two"
    assert (tmp_path / "remote" / "overlays" / "v.png").read_bytes() == b"png"


def test_an_attempt_is_never_used_twice(tmp_path: Path) -> None:
    storage = RunStorage(str(tmp_path))
    assert storage.next_attempt() == "attempt_1"
    (tmp_path / RAY_FOLDER / "attempt_1").mkdir(parents=True)
    assert storage.next_attempt() == "attempt_2"


def test_downloads_what_was_uploaded(tmp_path: Path) -> None:
    storage = RunStorage(f"file://{tmp_path}/remote")
    (tmp_path / "a").write_bytes(b"content")
    storage.folder("checkpoints").upload(tmp_path / "a", "a")
    download(storage.join("checkpoints", "a"), tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"content"


def test_checkpoints_lie_where_every_machine_reaches_them(tmp_path: Path) -> None:
    folder = str(tmp_path / "a")
    for save_dir in ("", f"{folder}/checkpoints"):
        assert (
            run_storage(Config(output_dir=folder, save_dir=save_dir)).checkpoints == f"{folder}/checkpoints"
        )
    kept = Config(output_dir=folder, save_dir=str(tmp_path / "kept"))
    assert run_storage(kept).checkpoints == str(tmp_path / "kept")
    kept.ray.storage_path = "s3://bucket"
    assert run_storage(kept).checkpoints == "s3://bucket/a/checkpoints"


def test_says_where_it_cannot_write(tmp_path: Path) -> None:
    check_writable(RunStorage(str(tmp_path / "new")))
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=rf"ray.storage_path: cannot write to {tmp_path}/file/run"):
        check_writable(RunStorage(str(tmp_path / "file" / "run")))
    with pytest.raises(ConfigError, match=r"ray.storage_path: cannot write to nowhere://bucket"):
        check_writable(RunStorage("nowhere://bucket/run"))
