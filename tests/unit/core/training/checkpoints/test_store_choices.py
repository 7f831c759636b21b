"""Which checkpoint is the newest, the best, torn or kept, and how often the storage is asked."""

from __future__ import annotations

import json
import logging
import math
import re
from pathlib import Path
from typing import Any

import pytest

from sam2vt.core.training.checkpoints import store as module
from sam2vt.core.training.checkpoints.store import (
    CheckpointInfo,
    CheckpointManifest,
    CheckpointStore,
    as_json,
)
from sam2vt.errors import CheckpointError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def stored(folder: Path, **options: Any) -> CheckpointStore:
    return CheckpointStore(str(folder), **{"pauses": (), **options})


def put(store: CheckpointStore, step: int, score: float | None = None) -> CheckpointManifest:
    local = Path(store.root).parent / "state"
    local.write_bytes(f"state of step {step:4}".encode())
    return store.put(local, CheckpointInfo(step, 0, 2 * step, 1, "interval", score))


def edit(folder: Path, name: str, **changes: Any) -> None:
    """Change fields of a manifest; ... removes one."""
    values = {**json.loads((folder / name).read_text()), **changes}
    (folder / name).write_text(json.dumps({key: each for key, each in values.items() if each is not ...}))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def spy(monkeypatch: pytest.MonkeyPatch, store: CheckpointStore, method: str) -> list[tuple[Any, ...]]:
    calls, real = [], getattr(store._folder, method)

    def call(*arguments: Any) -> Any:
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(store._folder, method, call)
    return calls


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([0.0, -0.5], 1),
        ([-0.5, 0.0], 2),
        ([0.0, 0.5], 2),
        ([0.5, 0.0], 1),
        ([math.nan, 0.1, None], 2),
        ([0.2, 0.2], 1),
        ([math.nan, None], None),
    ],
)
def test_the_best_has_the_highest_score(folder: Path, scores: list[float | None], best: int | None) -> None:
    store = stored(folder)
    for step, score in enumerate(scores, start=1):
        put(store, step, score)
    if best is None:
        assert not (folder / "best.ckpt").exists()
    else:
        assert (folder / "best.ckpt").read_bytes() == f"state of step {best:4}".encode()


def test_names_are_given_anew_only_where_they_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored(folder, keep_best=2)
    calls = spy(monkeypatch, store, "alias")
    for step, score in ((1, 0.5), (3, 0.7), (4, 0.1), (5, 0.6)):
        put(store, step, score)
    files = {step: f"step_{step:08d}.ckpt" for step in range(1, 6)}
    assert calls == [
        *((files[1], "last.ckpt"), (files[1], "best.ckpt")),
        *((files[3], "last.ckpt"), (files[3], "best.ckpt")),
        *((files[4], "last.ckpt"), (files[5], "last.ckpt")),
    ]
    assert [manifest.step for manifest in store.manifests()] == [3, 4, 5]


def test_what_was_second_is_the_best_again_once_the_best_is_abandoned(folder: Path) -> None:
    store = stored(folder, keep_best=2)
    for step, score in ((1, 0.5), (3, 0.7), (2, None)):
        put(store, step, score)
    assert (folder / "best.ckpt").read_bytes() == b"state of step    1"


def test_a_step_put_again_takes_its_own_place_among_the_newest(folder: Path) -> None:
    store = stored(folder)
    for step in (1, 2, 2):
        put(store, step)
    assert [manifest.file for manifest in store.manifests()] == ["step_00000001.ckpt", "step_00000002-2.ckpt"]


def test_a_new_name_comes_after_all_names_of_the_step(folder: Path) -> None:
    store = stored(folder)
    assert put(store, 4).file == "step_00000004.ckpt"
    for name in ("step_00000005.json", "step_00000005-2.json", "step_00000003-7.json"):
        (folder / name).write_text("torn")
    assert put(store, 5).file == "step_00000005-3.ckpt"
    assert put(store, 6).file == "step_00000006.ckpt"


def test_attempts_at_a_step_are_in_order_of_their_numbers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stored(folder)
    monkeypatch.setattr(store, "_tidy", lambda manifest: None)
    files = [put(store, 5).file for _ in range(11)]
    assert files[-2:] == ["step_00000005-10.ckpt", "step_00000005-11.ckpt"]
    assert [manifest.file for manifest in store.manifests()] == files
    assert store.newest().file == files[-1]


def test_a_checkpoint_is_deleted_after_its_manifest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored(folder, keep_newest=1)
    put(store, 1)
    deleted = spy(monkeypatch, store, "delete")
    put(store, 2)
    assert deleted == [("step_00000001.json",), ("step_00000001.ckpt",)]


def test_what_cannot_be_tidied_up_is_said_and_the_checkpoint_counts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = stored(folder, keep_newest=1)
    put(store, 1)

    def refuse(name: str) -> None:
        raise OSError("read-only")

    monkeypatch.setattr(store._folder, "delete", refuse)
    manifest = put(store, 2)
    (message,) = caplog.messages
    assert message == (
        f"{folder}/step_00000002.ckpt is stored, but older ones could not be tidied up: read-only"
    )
    assert store.newest() == manifest


def test_only_what_was_not_verified_is_hashed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored(folder)
    manifest = put(store, 1)
    hashed = spy(monkeypatch, store, "sha256")
    assert store.newest(verified=store.path(manifest)) == manifest
    assert hashed == []
    for verified in (None, f"{folder}/other.ckpt"):
        assert store.newest(verified=verified) == manifest
    assert hashed == [(manifest.file,)] * 2


def test_unfinished_files_are_said_and_others_are_not(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = stored(folder)
    put(store, 1, 0.5)
    for name in (".step_00000002.ckpt.writing", "step_00000003.ckpt", "notes.ckpt", ".results.csv.writing"):
        (folder / name).write_bytes(b"half")
    assert store.newest().step == 1
    assert caplog.messages == [
        f"{folder}/{name}: left out, its writing was not finished"
        for name in (".step_00000002.ckpt.writing", "step_00000003.ckpt")
    ]


def test_what_cannot_be_read_is_said_and_the_one_before_it_counts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = stored(folder)
    put(store, 1)
    put(store, 2)
    real = store._folder.sha256

    def fail(name: str) -> str:
        if name == "step_00000002.ckpt":
            raise OSError("bad sector")
        return real(name)

    monkeypatch.setattr(store._folder, "sha256", fail)
    assert store.newest().step == 1
    assert caplog.messages == [f"{folder}/step_00000002.json: left out, it cannot be read: bad sector"]
    (folder / "step_00000001.ckpt").unlink()
    with pytest.raises(CheckpointError) as caught:
        store.newest()
    assert str(caught.value).startswith(
        f"{folder}: no intact checkpoint was found, and these could not be read: "
        f"{folder}/step_00000002.json: bad sector. "
    )


def test_a_copy_is_described_by_its_content(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored(folder)
    first, second = put(store, 1), put(store, 2)
    (folder / "copy.ckpt").write_bytes((folder / first.file).read_bytes())
    (folder / "as_long.ckpt").write_bytes(b"x" * first.size)
    (folder / "longer.ckpt").write_bytes(b"x" * (first.size + 1))
    assert store.describe("copy.ckpt") == first
    assert store.describe("last.ckpt") == second
    assert store.describe("as_long.ckpt") is None
    hashed = spy(monkeypatch, store, "sha256")
    assert store.describe("longer.ckpt") is None
    assert store.describe("absent.ckpt") is None
    assert hashed == []


def test_a_checkpoint_is_described_while_it_is_what_its_manifest_says(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = stored(folder)
    manifest = put(store, 1)
    assert store.describe(manifest.file) == manifest
    assert store.describe("step_00000009.ckpt") is None
    assert caplog.messages == []
    edit(folder, manifest.name, size=manifest.size + 1)
    assert store.describe(manifest.file) is None
    assert caplog.messages == [
        f"{folder}/{manifest.file}: is not what the manifest beside it says: "
        f"{manifest.file} has {manifest.size} bytes of {manifest.size + 1}"
    ]


def test_manifests_are_those_of_files_of_the_right_size(folder: Path) -> None:
    store = stored(folder, keep_newest=9)
    for step in range(1, 6):
        put(store, step)
    (folder / "step_00000001.json").write_text("torn")
    (folder / "step_00000002.ckpt").write_bytes(b"short")
    (folder / "step_00000004.ckpt").unlink()
    assert [manifest.step for manifest in store.manifests()] == [3, 5]


def test_manifests_of_older_versions_are_read_and_damaged_ones_are_not(folder: Path) -> None:
    store = stored(folder)
    put(store, 1)
    edit(folder, "step_00000001.json", position=..., config=..., unknown=1)
    newest = store.newest()
    assert (newest.step, newest.position, newest.config) == (1, None, None)
    edit(folder, "step_00000001.json", position={"clips": 2}, config={"seed": 1})
    newest = store.newest()
    assert (newest.position, newest.config) == ({"clips": 2}, {"seed": 1})
    edit(folder, "step_00000001.json", reason=...)
    assert store.newest() is None


def test_a_folder_holds_checkpoints_if_any_file_is_one(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert stored(folder).holds_any() is False
    (folder / "of_old.ckpt").write_text("mine")
    assert stored(folder).holds_any() is True


def test_a_manifest_has_a_line_per_field_and_the_time_in_seconds(folder: Path) -> None:
    manifest = put(stored(folder), 7, 0.25)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", manifest.written)
    assert (folder / manifest.name).read_text().startswith('{\n "step": 7,\n "epoch": 0,\n')
    assert manifest.name == "step_00000007.json"


def test_waits_between_tries_and_gives_up_after_the_last(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(module.time, "sleep", waited.append)
    store = stored(folder, pauses=(0.25, 4.0))
    errors: list[OSError] = [OSError("first"), OSError("second")]

    def sizes() -> dict[str, int]:
        if errors:
            raise errors.pop(0)
        return {"a.ckpt": 1}

    monkeypatch.setattr(store._folder, "sizes", sizes)
    with caplog.at_level(logging.INFO):
        assert store.holds_any() is True
    assert waited == [0.25, 4.0]
    assert caplog.messages == [
        f"{folder}: first; trying again in 0.25 s",
        f"{folder}: second; trying again in 4.0 s",
    ]
    errors += [OSError("first"), OSError("second"), OSError("third")]
    with pytest.raises(OSError, match="third"):
        store.holds_any()
    assert waited == [0.25, 4.0] * 2
    errors += [FileNotFoundError("gone")]
    with pytest.raises(FileNotFoundError):
        store.holds_any()
    assert len(waited) == 4


def test_a_value_is_kept_as_json_holds_it_or_not_at_all() -> None:
    assert as_json({"clips": (1, 2.5), 3: None}) == {"clips": [1, 2.5], "3": None}
    assert as_json({"set": {1}}) is None
    circle: list[Any] = []
    circle.append(circle)
    assert as_json(circle) is None


def test_an_abandoned_checkpoint_is_gone_though_the_rest_cannot_be_tidied_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that went back to an earlier step must not be resumed from the later one."""
    store = stored(folder)
    put(store, 9)

    def fail(*_: Any) -> None:
        raise OSError("gone")

    monkeypatch.setattr(store._folder, "alias", fail)
    put(store, 4)
    assert [manifest.step for manifest in stored(folder).manifests()] == [4]
