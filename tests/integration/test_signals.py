"""Signals to process groups, as batch systems and `timeout` send them, and the tasks of SLURM's `srun`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.training.checkpoints.store import CheckpointManifest, CheckpointStore

REPO = Path(__file__).resolve().parents[2]
START_SECONDS, END_SECONDS = 180, 120
# Of a run that would last for minutes.
LONG = (
    "experiment=demo",
    "model.image_size=64",
    "dataset.image_size=[64,64]",
    "valdataset.image_size=[64,64]",
    "max_objects=2",
    "dataset.batch_size=1",
    "dataset.max_frame_stride=null",
    "dataset.prompt_types=[mask,point]",
    "dataset.video_clip_length=2",
    "dataset.clips_per_video=5000",
    "trainer.max_epochs=1",
    "trainer.max_steps=-1",
    "trainer.limit_val_batches=0",
    "trainer.val_check_interval=1.0",
    "trainer.logger=false",
    "trainer.num_overlay_videos=0",
    "trainer.log_every_n_steps=1",
    "trainer.accelerator=cpu",
    "scheduler.warmup_steps=1",
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos") / "data"
    write_sample_data(folder, num_videos=2, num_frames=5, size=(48, 64))
    return folder


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts `sam2vt` in a process group of its own; what is left of it ends with the test."""
    started: list[subprocess.Popen] = []

    def run(*arguments: str, group: int | None = None, **variables: str) -> subprocess.Popen:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        process = subprocess.Popen(
            [sys.executable, "-m", "sam2vt.cli", *arguments],
            stdout=(tmp_path / f"log{len(started)}").open("w"),
            stderr=subprocess.STDOUT,
            env={**environment, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1", **variables},
            process_group=group or 0,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("log*")))


def wait_until(holds: Callable[[], object], folder: Path, *processes: subprocess.Popen) -> None:
    until = time.monotonic() + START_SECONDS
    while not holds():
        assert time.monotonic() < until, logs(folder)
        assert all(process.poll() is None for process in processes), logs(folder)
        time.sleep(0.1)


def saved(run: Path) -> list[CheckpointManifest]:
    return CheckpointStore(str(run / "checkpoints")).manifests()


@pytest.mark.timeout(480)
@pytest.mark.skipif(sys.version_info < (3, 11), reason="process_group")
@pytest.mark.parametrize(
    ("number", "code", "workers"),
    [(signal.SIGTERM, 143, 3), (signal.SIGINT, 130, 1), (signal.SIGHUP, 129, 1)],
)
@pytest.mark.usefixtures("hangups")
def test_a_signal_to_the_group_saves(
    start: Callable[..., subprocess.Popen], videos: Path, tmp_path: Path, number: int, code: int, workers: int
) -> None:
    run = tmp_path / "run"
    given = [f"dataset.data_path={videos}", f"output_dir={run}", f"dataset.num_workers={workers}"]
    process = start("train", *LONG, "trainer.checkpoint_every_n_steps=3", *given)
    wait_until(lambda: saved(run), tmp_path, process)
    os.killpg(process.pid, number)
    assert process.wait(END_SECONDS) == code, logs(tmp_path)
    assert saved(run)[-1].reason == signal.Signals(number).name.lower()
    assert f"{signal.Signals(number).name}: step" in logs(tmp_path)
    assert "Traceback" not in logs(tmp_path)
    assert f"continue with: sam2vt train resume={run}" in logs(tmp_path)


@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.version_info < (3, 11), reason="process_group")
def test_the_tasks_of_srun_train_as_one_run_and_save_together(
    start: Callable[..., subprocess.Popen], videos: Path, tmp_path: Path
) -> None:
    """Each is signalled at a moment of its own, first to save and later to end."""
    run = tmp_path / "run"
    given = [f"dataset.data_path={videos}", f"output_dir={run}", "dataset.num_workers=1"]
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_NNODES": "1"}
    tasks: list[subprocess.Popen] = []
    for rank in range(2):
        task = {"SLURM_NTASKS": "2", "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
        group = tasks[0].pid if tasks else None
        tasks.append(start("train", *LONG, "trainer.devices=auto", *given, group=group, **job, **task))
    log = tmp_path / "log0"
    wait_until(lambda: "loss" in log.read_text(), tmp_path, *tasks)
    for task in tasks:
        task.send_signal(signal.SIGUSR1)
    wait_until(lambda: [each for each in saved(run) if each.reason == "signal"], tmp_path, *tasks)
    time.sleep(1)
    assert [task.poll() for task in tasks] == [None, None], logs(tmp_path)
    tasks[1].send_signal(signal.SIGTERM)
    time.sleep(0.3)
    os.killpg(tasks[0].pid, signal.SIGTERM)
    assert [task.wait(END_SECONDS) for task in tasks] == [143, 143], logs(tmp_path)
    newest = saved(run)[-1]
    assert (newest.reason, newest.world_size) == ("sigterm", 2)
    assert newest.samples_seen % 2 == 0
    assert not list(run.rglob("hpc_ckpt*"))
    assert "Traceback" not in logs(tmp_path)


@pytest.mark.timeout(480)
@pytest.mark.skipif(sys.version_info < (3, 11), reason="process_group")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_task_that_waits_for_the_others_ends(
    start: Callable[..., subprocess.Popen], videos: Path, tmp_path: Path, number: int
) -> None:
    given = [f"dataset.data_path={videos}", f"output_dir={tmp_path / 'run'}", "trainer.devices=auto"]
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "1", "SLURM_NNODES": "1"}
    task = start("train", *LONG, *given, **job, SLURM_NTASKS="2", SLURM_PROCID="0", SLURM_LOCALID="0")
    wait_until(lambda: "MEMBER: 1/2" in logs(tmp_path), tmp_path, task)
    time.sleep(2)
    assert task.poll() is None, logs(tmp_path)
    task.send_signal(number)
    assert task.wait(20) == -number, logs(tmp_path)
