"""Folders, shared memory, limits, and the address of a cluster."""

from __future__ import annotations

import resource
import shutil
import socket
from collections import namedtuple
from pathlib import Path

import pytest

from sam2vt.health import places
from sam2vt.health.finding import BROKEN, NOTE, OK

Usage = namedtuple("Usage", "total used free")
GIB = 2**30


def disk(monkeypatch: pytest.MonkeyPatch, total: float, free: float) -> None:
    usage = Usage(int(total * GIB), 0, int(free * GIB))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


def folders() -> dict[str, places.Finding]:
    return {each.name: each for each in places.places()}


def test_the_folders_are_named_with_their_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    disk(monkeypatch, 64, 32)
    assert folders()["here"] == places.Finding("here", f"{tmp_path}, 32.0 GiB free")
    assert {folders()[name].state for name in ("here", "temporary")} == {OK}
    assert not list(tmp_path.iterdir())


def test_little_space_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 64, 0.5)
    assert [folders()[name].state for name in ("here", "temporary")] == [NOTE, NOTE]
    assert "512 MiB free" in folders()["here"].value


def test_a_folder_that_cannot_be_written_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(places.tempfile, "TemporaryFile", refuse)
    here, temporary = folders()["here"], folders()["temporary"]
    assert (here.state, temporary.state) == (BROKEN, BROKEN)
    assert here.value.endswith("cannot be written: Permission denied")
    assert "output_dir" in here.fix
    assert "TMPDIR" in temporary.fix


@pytest.mark.parametrize(("free", "state"), [(0.06, NOTE), (0.99, NOTE), (1.0, OK), (8.0, OK)])
def test_small_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, state: str
) -> None:
    disk(monkeypatch, 8, free)
    found = places.shared_memory(tmp_path)
    assert found.state == state
    assert ("--shm-size=8g" in found.fix) == (state == NOTE)
    assert places.shared_memory(tmp_path / "none").state == NOTE


@pytest.mark.parametrize(
    ("limits", "value", "state"),
    [
        ((256, 4096), "256, up to 4096", NOTE),
        ((1024, 4096), "1024, up to 4096 by ulimit -n", OK),
        ((1024, resource.RLIM_INFINITY), "1024, without limit by ulimit -n", OK),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), "no limit", OK),
    ],
)
def test_open_files(limits: tuple[int, int], value: str, state: str) -> None:
    found = places.open_files(*limits)
    assert (found.value, found.state) == (value, state)


def cluster(monkeypatch: pytest.MonkeyPatch, address: str | None) -> tuple[str, str]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    (found,) = places.ray_cluster()
    assert bool(found.fix) == (found.state == BROKEN)
    return found.value, found.state


def test_without_an_address_ray_starts_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster(monkeypatch, None)[1] == OK
    assert cluster(monkeypatch, "")[0].startswith("not set")
    assert cluster(monkeypatch, "local")[1] == OK


def test_a_cluster_answers_or_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert cluster(monkeypatch, "auto") == ("auto, and no Ray runs on this machine", BROKEN)
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        for address in (place, f"ray://{place}", f"http://{place}/"):
            assert cluster(monkeypatch, address) == (f"{address} answers", OK)
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(f"{place}\n")
        assert cluster(monkeypatch, "auto") == ("auto answers", OK)
    assert cluster(monkeypatch, place) == (f"{place} does not answer: Connection refused", BROKEN)


@pytest.mark.parametrize("address", ["head", "head:", "head:port", "head:99999"])
def test_an_address_without_a_port(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    assert cluster(monkeypatch, address) == (f"{address}: has no port", BROKEN)
