"""Packing that is the same each time, goes on after a kill, and touches nothing that is not its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam2vt import cli
from sam2vt.core.data.formats.packed import open_packed, verify
from sam2vt.core.data.frames.reading import read_frames
from sam2vt.core.data.packed.manifest import read_manifest, read_progress
from sam2vt.core.data.records.table import write_records
from sam2vt.core.data.writing import pack as writer
from sam2vt.core.data.writing.pack import PackOptions, pack
from sam2vt.core.storage.folder import Folder
from sam2vt.errors import ConfigError, DataError

OPTIONS = PackOptions(segment_frames=4, shard_mb=1)

# Packs a record table in small shards, slowly.
SLOW_PACK = """
import sys, time
from sam2vt.core.data.writing import segments
from sam2vt.core.data.writing import pack as writer
from sam2vt.core.data.records.table import RecordTable

encode = segments.encode_mask
def slow(mask):
    time.sleep(0.02)
    return encode(mask)

segments.encode_mask = slow
writer._MEGABYTE = 50_000
writer.pack(RecordTable(sys.argv[1]), sys.argv[2], writer.PackOptions(segment_frames=4, shard_mb=1), 1)
"""


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(writer, "_MEGABYTE", 50_000)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_bytes_each_time(sources, tmp_path, workers):
    for name, number in (("one", 1), ("two", workers)):
        pack(sources, str(tmp_path / name), OPTIONS, number)
    one, two = (contents(tmp_path / name) for name in ("one", "two"))
    assert one == two
    assert len(one) > 8
    assert not any(str(tmp_path).encode() in content for content in one.values())  # nor where it lay


def test_killed_and_started_again(sources, tmp_path):
    table, killed, whole = tmp_path / "records.parquet", tmp_path / "killed", tmp_path / "whole"
    write_records(sources, table)
    child = subprocess.Popen([sys.executable, "-c", SLOW_PACK, str(table), str(killed)])
    try:
        deadline = time.monotonic() + 60
        while not (killed / "shard-00002.parquet").exists() and time.monotonic() < deadline:
            assert child.poll() is None
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not (killed / "manifest.json").exists()
    progress = read_progress(Folder(str(killed)))
    before = {part.name: os.stat(killed / part.name) for part in progress.shards}
    assert len(before) >= 2
    pack(sources, str(killed), OPTIONS, workers=1)
    pack(sources, str(whole), OPTIONS, workers=1)
    assert contents(killed) == contents(whole)
    for name, status in before.items():  # not written again
        now = os.stat(killed / name)
        assert (now.st_ino, now.st_mtime_ns) == (status.st_ino, status.st_mtime_ns)


def interrupted(sources, folder: Path | str, monkeypatch) -> None:
    """A pack that ended with its third shard."""
    write = writer.write_json

    def stop(folder, progress):
        write(folder, progress)
        if len(progress.shards) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            pack(sources, str(folder), OPTIONS, workers=1)


def test_a_lost_or_cut_shard_is_written_again(sources, tmp_path, monkeypatch):
    pack(sources, str(tmp_path / "whole"), OPTIONS, workers=1)
    for change in (lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1])):
        folder = tmp_path / f"pack{change.__code__.co_firstlineno}{change.__code__.co_names}"
        interrupted(sources, folder, monkeypatch)
        change(folder / "shard-00001.parquet")
        pack(sources, str(folder), OPTIONS, workers=1)
        assert contents(folder) == contents(tmp_path / "whole")


def test_only_its_own_work_goes_on(sources, tmp_path, monkeypatch):
    folder = tmp_path / "pack"
    interrupted(sources, folder, monkeypatch)
    kept = contents(folder)
    with pytest.raises(DataError, match="unfinished pack of other options"):
        pack(sources, str(folder), replace(OPTIONS, encode="png"), workers=1)
    with pytest.raises(DataError, match="unfinished pack of other data"):
        pack(sources[:-1], str(folder), OPTIONS, workers=1)
    assert contents(folder) == kept
    pack(sources, str(folder), OPTIONS, workers=1)
    with pytest.raises(DataError, match="holds a finished pack"):
        pack(sources, str(folder), OPTIONS, workers=1)
    assert "packing.json" not in contents(folder)


def test_a_folder_with_something_else_stays_as_it_is(sources, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"is not empty \(mine.txt\); choose an empty folder"):
        pack(sources, str(tmp_path), OPTIONS, workers=1)
    with pytest.raises(DataError, match="is a file; choose a folder"):
        pack(sources, str(tmp_path / "mine.txt"), OPTIONS, workers=1)
    assert contents(tmp_path) == {"mine.txt": b"mine"}
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="or another manifest.json"):
        pack(sources, str(tmp_path), OPTIONS, workers=1)
    (tmp_path / "manifest.json").rename(tmp_path / "packing.json")
    with pytest.raises(DataError, match="is not of a pack"):
        pack(sources, str(tmp_path), OPTIONS, workers=1)


def test_a_worker_that_the_system_ends(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "build_rows", _ended)
    with pytest.raises(DataError, match="fewer --workers"):
        pack(sources, str(tmp_path / "pack"), OPTIONS, workers=2)


def _ended(task):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_storage_without_a_disk(sources, tmp_path, monkeypatch):
    """As an object store: nothing is renamed there; what is there has been closed."""
    out = f"fsspec+memory://{tmp_path.name}/pack"
    try:
        folder = Folder(out)
    except OSError:
        pytest.skip("this pyarrow has no filesystem of fsspec by URI")
    interrupted(sources, out, monkeypatch)
    assert len(read_progress(folder).shards) == 3
    pack(sources, out, OPTIONS, workers=1)
    pack(sources, str(tmp_path / "disk"), OPTIONS, workers=1)
    assert {name: folder.read(name) for name in sorted(folder.sizes())} == contents(tmp_path / "disk")
    assert not verify(out)[1]
    for source, record in zip(sources, open_packed(out)):
        assert np.array_equal(read_frames(source, [3, 4]), read_frames(record, [3, 4]))


def test_what_cannot_be_packed(sources, tmp_path):
    missing = replace(sources[1], frame_paths=("/nowhere/0.jpg",) * 37)
    with pytest.raises(DataError, match=r"/nowhere/0.jpg.*video labels.*restore"):
        pack([missing], str(tmp_path / "a"), OPTIONS, workers=1)
    other = replace(sources[1], frame_paths=(*sources[1].frame_paths[:-1], *sources[0].frame_paths[:1]))
    wrong_size = replace(other, height=50, annotations={})
    with pytest.raises(DataError, match="frame 0 is 64x48.*the video labels is 64x50"):
        pack([wrong_size], str(tmp_path / "b"), OPTIONS, workers=1)
    with pytest.raises(DataError, match="there is no video"):
        pack([], str(tmp_path / "c"), OPTIONS, workers=1)
    assert not list(tmp_path.glob("[abc]"))  # nothing is left of what is refused
    for fields in ({"segment_frames": 0}, {"shard_mb": 0}):
        with pytest.raises(ConfigError, match="at least 1"):
            PackOptions(**fields)


def test_where_nothing_can_be_written(sources, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/a: packing.json cannot be written: .*may write to$"):
        pack(sources, str(tmp_path / "file/a"), OPTIONS, workers=1)
    with pytest.raises(DataError, match=r"b.parquet: the record table cannot be written: .*may write to$"):
        write_records(sources, tmp_path / "file/b.parquet")
    with pytest.raises(DataError, match=r"cannot be reached: .*such as s3://bucket/folder"):
        pack(sources, "nowhere://a", OPTIONS, workers=1)


def test_verify_reads_everything(sources, tmp_path, capsys):
    folder = tmp_path / "pack"
    pack(sources, str(folder), OPTIONS, workers=1)
    manifest, faults = verify(str(folder))
    assert not faults
    assert manifest == read_manifest(Folder(str(folder)))
    assert sum(part.rows for part in manifest.shards) == 2 + 10 + 5 + 5 + 13
    content = bytearray((folder / "shard-00001.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "shard-00001.parquet").write_bytes(content)
    (folder / "shard-00002.parquet").unlink()
    (folder / "shard-00003.parquet").write_bytes(b"")
    with pytest.raises(SystemExit, match="1"):
        cli.main(["pack", "--verify", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    for number, what in ((1, "its checksum is not that of"), (2, "missing"), (3, "has 0 bytes")):
        assert any(f"shard-0000{number}.parquet" in line and what in line for line in lines)
    assert lines[-1] == f"{len(manifest.parts)} files, 3 of them bad"


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["b.txt", "a.txt"], "holds a.txt, b.txt, but no manifest.json"),
        (["manifest.json"], "has a manifest.json of another program"),
        ([], "is empty, or does not exist"),
    ],
)
def test_verify_takes_packs_only(tmp_path, capsys, names, says):
    folder = tmp_path / "data"
    for name in names:
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    with pytest.raises(SystemExit, match="2"):
        cli.main(["pack", "--verify", str(folder)])
    told = capsys.readouterr().err
    assert f"{folder}: is no pack: it {says}" in told
    assert "the folder or URI that `sam2vt pack DATA OUT` wrote to" in told
    assert "sam2vt validate" in told


def test_the_command_line(sources, tmp_path, capsys):
    data = tmp_path / "records.parquet"
    write_records(sources, data)
    out = (tmp_path / "pack").as_uri()
    cli.main(["pack", str(data), out, "--segment-frames", "25", "--shard-mb", "500", "--workers", "1"])
    assert "5 videos of 130 frames in 1 shards" in capsys.readouterr().out
    assert json.loads((tmp_path / "pack/manifest.json").read_text())["shards"][0]["rows"] == 1 + 2 + 1 + 1 + 2
    cli.main(["pack", "--verify", out])
    cli.main(["validate", out, "--workers", "1"])
    assert "no fault found" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        cli.main(["pack", str(data)])
    assert "OUT is missing" in capsys.readouterr().err
