"""A checkpoint that cannot be written, or is damaged: the one before is used, and stays."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.distributed.launch import fit
from sam2vt.errors import TrainingError
from tests.fault import storage
from tests.fault.runs import assert_same_result, config_of, final_state, traced
from tests.fault.trace import Log

pytestmark = pytest.mark.usefixtures("local_ray")

Figures = Callable[[str], None]
ONE_WORKER = ("ray.num_workers=1", "dataset.clips_per_video=3")  # again 2 epochs of 6 steps


def name_of(step: int, suffix: str) -> str:
    return f"step_{step:08d}.{suffix}"


class KilledWhileSaving:
    """Kills the process once within each of three saves: of the state, of its upload, of its manifest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> None:
        import torch

        save = torch.save

        def save_or_die(state: Any, path: Any, *arguments: Any, **named: Any) -> None:
            if name_of(4, "ckpt") in str(path) and self._first("state"):
                Path(path).write_bytes(bytes(1000))
                storage.killed()
            save(state, path, *arguments, **named)

        torch.save = save_or_die
        storage.inject(self.before_writing)()

    def before_writing(self, path: str) -> Any:
        if name_of(6, "ckpt") in path and self._first("upload"):
            return storage.Sink(path, 1 << 19, storage.killed)
        if name_of(8, "json") in path and self._first("manifest"):
            storage.killed()
        return None

    def _first(self, what: str) -> bool:
        marker = self.folder / f"killed-{what}"
        if marker.exists():
            return False
        marker.write_text(str(time.time()))
        return True


def test_killed_while_saving(videos: Path, tmp_path: Path, reference: Any, figures: Figures) -> None:
    """Three times in one run, at steps 4, 6 and 8."""
    log = Log(tmp_path / "trace")
    config = config_of(videos, tmp_path / "run", "ray.max_failures=3")
    fit(config, traced(log.folder, before=KilledWhileSaving(tmp_path)))
    assert [group.first for group in log.groups()] == [0, 0, 4, 6]
    assert log.committed() == reference.clips
    assert_same_result(final_state(tmp_path / "run"), reference.state)
    left = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    whole = {
        "best.ckpt",
        "last.ckpt",
        *(name_of(step, suffix) for step in (8, 12) for suffix in ("ckpt", "json")),
    }
    assert left <= whole
    for what, group in zip(("state", "upload", "manifest"), log.groups()[1:]):
        seconds = group.next_done(float((tmp_path / f"killed-{what}").read_text()))
        figures(f"{what}: went on after step {group.first}, next step after {seconds:.0f} s")


def test_storage_that_is_full_ends_the_run_with_its_reason(
    videos: Path, tmp_path: Path, figures: Figures
) -> None:
    """From step 8 on: training goes on to the end, which cannot be kept; step 6 stays."""
    log = Log(tmp_path / "trace")

    def fault(path: str) -> Any:
        step = int(Path(path).name[5:13]) if Path(path).name.startswith("step_") else 0
        return storage.full(path) if step >= 8 else None

    config = config_of(videos, tmp_path / "run", *ONE_WORKER, "ray.max_failures=2")
    with pytest.raises(
        TrainingError, match=r"step 12, cannot be saved: .*No space left.*step_00000006\.ckpt"
    ):
        fit(config, traced(log.folder, before=storage.inject(fault)))
    assert [group.steps for group in log.groups()] == [12]
    newest = CheckpointStore(str(tmp_path / "run" / "checkpoints")).newest()
    assert newest is not None
    assert newest.step == 6
    figures("trained on to step 12, ended with the reason, step 6 stays")


def test_storage_that_refuses_for_a_while(
    videos: Path, tmp_path: Path, figures: Figures, capfd: pytest.CaptureFixture[str]
) -> None:
    """All of step 8's tries and two of the last step's."""
    log, tries = Log(tmp_path / "trace"), tmp_path / "tries"
    tries.mkdir()

    def fault(path: str) -> None:
        if name_of(8, "ckpt") in path:
            storage.refused(path)
        if name_of(12, "ckpt") in path and len(os.listdir(tries)) < 2:
            (tries / str(len(os.listdir(tries)))).touch()
            storage.refused(path)

    fit(config_of(videos, tmp_path / "run", *ONE_WORKER), traced(log.folder, before=storage.inject(fault)))
    assert len(log.groups()) == 1
    assert len(os.listdir(tries)) == 2
    kept = [m.step for m in CheckpointStore(str(tmp_path / "run" / "checkpoints")).manifests()]
    assert kept == [6, 12]
    said = capfd.readouterr().err
    assert "step 8 could not be saved" in said
    assert "the storage refuses to write" in said
    figures("step 8 left out, step 12 stored at the third try")


def test_damaged_newest_checkpoint(
    videos: Path,
    tmp_path: Path,
    reference: Any,
    figures: Figures,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A byte is flipped: the run goes on from the one before, to the same end.

    A truncated one is the store's own test, and what a kill in the midst of a write leaves.
    """
    folder, log = tmp_path / "run", Log(tmp_path / "trace")
    shutil.copytree(reference.run, folder)
    newest = folder / "checkpoints" / name_of(12, "ckpt")
    content = bytearray(newest.read_bytes())
    newest.unlink()  # last.ckpt may be a link to it
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    began = time.time()
    fit(config_of(videos, folder, "resume=auto"), traced(log.folder))
    assert f"{newest.name}" in caplog.text or name_of(12, "json") in caplog.text
    assert [group.first for group in log.groups()] == [8]
    assert_same_result(final_state(folder), reference.state)
    figures(f"went on after step 8, next step after {log.seconds_until_a_step(began):.0f} s")
