"""A checkpoint that cannot be written, or is damaged: the one before is used, and stays."""

from __future__ import annotations

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
from tests.fault.runs import WHOLE, assert_same_result, config_of, final_state, traced
from tests.fault.trace import Log

pytestmark = pytest.mark.usefixtures("local_ray")

Figures = Callable[[str], None]
ONE_WORKER = ("ray.num_workers=1", "dataset.clips_per_video=3")  # again 2 epochs of 6 steps


def name_of(step: int, suffix: str) -> str:
    return f"step_{step:08d}.{suffix}"


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
    fit(config_of(videos, folder, *WHOLE, "resume=auto"), traced(log.folder))
    assert f"{newest.name}" in caplog.text or name_of(12, "json") in caplog.text
    assert [group.first for group in log.groups()] == [8]
    assert_same_result(final_state(folder), reference.state)
    figures(f"went on after step 8, next step after {log.seconds_until_a_step(began):.0f} s")
