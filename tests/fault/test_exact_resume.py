"""A run that was killed at any point and started again ends as one that was not: weights, optimizer, rows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sam2vt.distributed.launch import fit
from tests.fault import kill_points, runs
from tests.fault.conftest import REPO, Reference
from tests.fault.kill_points import POINTS, SAVED
from tests.fault.runs import EPOCHS, SAVED_EVERY, STEPS, STEPS_AN_EPOCH
from tests.fault.trace import Log

Run = Callable[..., int]
Whole = tuple[dict[str, Any], list[dict[str, str]], Path]  # checkpoint, rows and folder of a run


def overrides_of(videos: Path, output_dir: Path) -> list[str]:
    """Two epochs of six steps with all that is drawn at random, validated on a tiny video at their ends."""
    return [
        *("model=nano", "model.image_size=64", "dataset.image_size=[64,64]", "valdataset.image_size=[64,64]"),
        *("max_objects=2", "dataset.video_clip_length=2", "valdataset.video_clip_length=2"),
        *("dataset.prompt_types=[point,box,mask]", "model.num_correction_clicks=1"),
        *(
            "dataset.num_workers=0",
            "valdataset.num_workers=0",
            f"dataset.clips_per_video={STEPS_AN_EPOCH // 2}",
        ),
        *("trainer=cpu", f"trainer.max_epochs={EPOCHS}", "trainer.limit_val_batches=1"),
        *("trainer.num_overlay_videos=0", "trainer.logger=false", "trainer.early_stopping_patience=5"),
        f"trainer.checkpoint_every_n_steps={SAVED_EVERY}",
        *("scheduler.warmup_steps=2", f"dataset.data_path={videos}", f"output_dir={output_dir}"),
        *("resume=auto", "hydra.output_subdir=null"),
    ]


@pytest.fixture(scope="module")
def run(videos: Path) -> Iterator[Run]:
    """Runs the local training into a folder; returns its exit code, -9 if it was killed."""
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", kill_points.__name__]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    server = subprocess.Popen(command, env=environment, cwd=REPO, **pipes)
    assert server.stdout.readline() == "ready\n"

    def one(folder: Path, kill: str | None = None, note: int | None = None) -> int:
        job = {
            "overrides": overrides_of(videos, folder / "run"),
            "kill": kill and [kill, str(folder)],
            "note": note and [note, str(folder)],
            "log": str(folder / "log"),
        }
        print(json.dumps(job), file=server.stdin, flush=True)
        return int(server.stdout.readline())

    yield one
    server.stdin.close()
    server.wait(10)


@pytest.fixture(scope="module")
def undisturbed(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(folder) == 0, (folder / "log").read_text()
    rows = runs.final_rows(folder / "run")
    assert [int(row["step"]) for row in rows] == [0, STEPS_AN_EPOCH, STEPS]
    assert all(float(row["train/loss"]) > 0 for row in rows[1:])
    return runs.final_state(folder / "run"), rows, folder / "run"


@pytest.mark.parametrize("point", POINTS)
def test_local(
    run: Run,
    undisturbed: Whole,
    tmp_path: Path,
    point: str,
    figures: Callable[[str], None],
) -> None:
    assert run(tmp_path, kill=point) == -9, (tmp_path / "log").read_text()
    assert (tmp_path / "killed").exists()
    started = time.time()
    assert run(tmp_path, note=POINTS[point]) == 0, (tmp_path / "log").read_text()
    newest = SAVED[point]
    said = f"step_{newest:08d}.ckpt, step {newest}" if newest else "starting from step 0"
    assert said in (tmp_path / "log").read_text()
    state, rows, _ = undisturbed
    assert runs.final_rows(tmp_path / "run") == rows
    runs.assert_same_result(runs.final_state(tmp_path / "run"), state)
    seconds = float((tmp_path / "recovered").read_text()) - started
    figures(f"{POINTS[point] - newest} steps repeated, {seconds:.1f} s from its start to the same step again")


def test_from_a_damaged_checkpoint(
    run: Run, undisturbed: Whole, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    """A byte of the newest is flipped: the run goes on from the one before, to the same end."""
    state, rows, whole = undisturbed
    shutil.copytree(whole, tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / f"step_{STEPS:08d}.ckpt"
    content = bytearray(newest.read_bytes())
    newest.unlink()  # last.ckpt may be a link to it
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert run(tmp_path) == 0, (tmp_path / "log").read_text()
    told = (tmp_path / "log").read_text()
    assert newest.stem in told
    assert "step_00000008.ckpt, step 8" in told
    assert runs.final_rows(tmp_path / "run") == rows
    runs.assert_same_result(runs.final_state(tmp_path / "run"), state)
    figures("went on after step 8")


# The run is killed at one after the other: rank and point. Within an epoch is where a rank hangs and the
# driver is killed; what a process does before it writes to the store is the same in a local run.
KILLS = (
    (1, "first step"),
    (0, "in validation"),
    (0, "in a checkpoint write, the upload"),
    (0, "in a checkpoint write, the manifest"),
    (1, "last step"),
)


class KillAll:
    """Called in a worker, before it trains."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> None:
        for rank, point in KILLS:
            kill_points.KillAt(point, self.marker(point).parent, rank).install()

    def marker(self, point: str) -> Path:
        folder = self.folder / point
        folder.mkdir(exist_ok=True)
        return folder / "killed"


@pytest.mark.usefixtures("local_ray")
def test_ray(videos: Path, reference: Reference, tmp_path: Path, figures: Callable[[str], None]) -> None:
    """The workers are started again by themselves, each time from the newest complete checkpoint."""
    kill, log, run = KillAll(tmp_path), Log(tmp_path / "trace"), tmp_path / "run"
    config = runs.config_of(videos, run, *runs.WHOLE, f"ray.max_failures={len(KILLS)}")
    fit(config, runs.traced(log.folder, before=kill))
    assert [group.first for group in log.groups()] == [0, *(SAVED[point] for _, point in KILLS)]
    assert log.committed() == reference.clips
    assert runs.final_rows(run) == reference.rows
    runs.assert_same_result(runs.final_state(run), reference.state)
    left, whole = ({path.name for path in (each / "checkpoints").iterdir()} for each in (run, reference.run))
    assert left == whole  # nothing half written
    for (_, point), group, repeated in zip(KILLS, log.groups()[1:], log.repeats()):
        seconds = group.next_done(float(kill.marker(point).read_text()))
        figures(f"{point}: {repeated} steps repeated, next step after {seconds:.0f} s")
