"""The whole training on a Ray of this machine: two workers, then one, exit codes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from mlflow.tracking import MlflowClient

from sam2vt.composing import compose_config
from sam2vt.config import Config
from sam2vt.configuration.loading import load_config
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.distributed.cluster.session import LOCAL_ENVIRONMENT, sigterm_as_before
from sam2vt.distributed.launch import fit
from sam2vt.distributed.worker.entry import Job, train_on_worker
from sam2vt.run_summary import RunSummary
from tests.integration import wandb_files
from tests.integration.one_clip import ONE_CLIP

REPO = Path(__file__).resolve().parents[2]
STEPS = 8


@pytest.fixture(scope="module")
def running_ray() -> Iterator[None]:
    for name, value in {**LOCAL_ENVIRONMENT, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}.items():
        os.environ.setdefault(name, value)
    with sigterm_as_before():
        ray.init(
            address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "videos"
    write_sample_data(folder, num_videos=2, num_frames=6)
    return folder


def config_of(videos: Path, output_dir: Path, *overrides: str) -> Config:
    """Epochs of 5 steps, validated after their second and fourth: a run ends within its second epoch,
    a step after a validation. Three loggers, of which MLflow's store is beside the videos."""
    common = [
        "experiment=demo",
        *ONE_CLIP,
        "model.image_size=64",
        "dataset.image_size=[64,64]",
        "valdataset.image_size=[64,64]",
        f"dataset.data_path={videos}",
        f"output_dir={output_dir}",
        "dataset.clips_per_video=5",
        "dataset.video_clip_length=2",
        "dataset.num_workers=0",
        "valdataset.num_workers=0",
        "trainer.max_epochs=2",
        f"trainer.max_steps={STEPS}",
        "trainer.val_check_interval=2",
        "trainer.num_overlay_videos=0",
        "scheduler.warmup_steps=1",
        f"scheduler.T_max={STEPS}",
        "loggers=[csv,wandb,mlflow]",
        f"mlflow_uri=sqlite:///{videos.parent}/mlflow.db",
    ]
    return load_config(compose_config([*common, *overrides]))


@pytest.fixture(scope="module")
def finished(
    running_ray: None, videos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, RunSummary]:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    more = ("trainer.num_overlay_videos=1", "valdatasets={clicks: {prompt_types: [point]}}")
    return folder, fit(config_of(videos, folder, *more))


@pytest.mark.cluster
def test_two_workers_train_validate_and_export(finished: tuple[Path, RunSummary]) -> None:
    folder, summary = finished
    assert summary.steps == STEPS
    assert (summary.first or {})["step"] == 0
    assert (summary.last or {})["step"] == STEPS
    assert (summary.hold_first or {})["J"] > 0
    assert summary.clips_per_second > 0
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [0, 2, 4, 7, STEPS]
    assert all(row["val/clicks/J&F"] for row in rows)
    assert (summary.further["clicks"]["best"] or {})["step"] == (summary.best or {})["step"]
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == STEPS
    assert last["SAM2LightningDataModule"]["samples_seen"] == STEPS * 2
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    for path in summary.files.values():
        assert Path(path).exists(), path
    assert summary.judged_on_training_videos
    assert {"checkpoint", "curves", "numbers", "overlays", "SAM 2 checkpoint"} == summary.files.keys()
    text = str(summary)
    for each in ("before training", "after (best)", "after (last)", "first mask held", "next:"):
        assert each in text


def tracked(videos: Path, folder: Path) -> tuple[Any, list[int]]:
    """MLflow's only run that a folder knows, with the steps of its J&F."""
    client = MlflowClient(f"sqlite:///{videos.parent}/mlflow.db")
    ids = json.loads((folder / "loggers.json").read_text())
    (run,) = [client.get_run(known) for place, known in ids.items() if place.startswith("mlflow ")]
    return run, sorted({each.step for each in client.get_metric_history(run.info.run_id, "val/JF")})


@pytest.mark.cluster
def test_rank_zero_alone_logs_and_stores_files(finished: tuple[Path, RunSummary], videos: Path) -> None:
    folder, _ = finished
    run, steps = tracked(videos, folder)
    assert (steps, run.info.status) == ([0, 2, 4, 7, STEPS], "FINISHED")
    stored = Path(
        MlflowClient(f"sqlite:///{videos.parent}/mlflow.db").download_artifacts(run.info.run_id, "")
    )
    assert {each.name for each in stored.iterdir()} == {"checkpoints", "overlays"}
    assert [each.parent.name for each in folder.glob("csv*/metrics.csv")] == ["csv"]
    assert len(wandb_files.records(folder, "run")) == len(wandb_files.records(folder, "artifact")) == 1
    shown = [row["trainer/global_step"] for row in wandb_files.rows(folder) if "val/J&F" in row]
    assert shown == steps


@pytest.mark.cluster
def test_the_runs_own_store_keeps_the_newest_checkpoint(finished: tuple[Path, RunSummary]) -> None:
    folder, _ = finished
    newest = CheckpointStore(str(folder / "checkpoints")).newest()
    assert newest is not None
    assert (newest.step, newest.samples_seen, newest.world_size) == (STEPS, 2 * STEPS, 2)
    assert not list((folder / "ray").rglob("*.ckpt"))


@pytest.fixture(scope="module")
def stopped(running_ray: None, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that `max_steps` ended within its first epoch."""
    folder = tmp_path_factory.mktemp("runs") / "stopped"
    fit(config_of(videos, folder, "trainer.max_steps=3"))
    return folder


@pytest.mark.cluster
def test_a_run_that_max_steps_ended_goes_on_to_the_same_bits(
    finished: tuple[Path, RunSummary], stopped: Path, videos: Path, tmp_path: Path
) -> None:
    """Ended within an epoch, on a step that is validated anyway, and at an epoch's end."""
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    for max_steps in (4, 5, STEPS):
        assert fit(config_of(videos, run, "resume=auto", f"trainer.max_steps={max_steps}")).steps == max_steps
    whole, resumed = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (finished[0], run)
    )
    assert resumed["SAM2LightningDataModule"] == whole["SAM2LightningDataModule"]
    assert tracked(videos, run)[1] == [0, 2, 3, 4, 5, 7, STEPS]  # MLflow's run is continued
    assert len({each.run_id for each in wandb_files.records(run, "run")}) == 1
    assert resumed["state_dict"].keys() == whole["state_dict"].keys()
    different = [k for k, v in whole["state_dict"].items() if not torch.equal(v, resumed["state_dict"][k])]
    assert different == []
    assert_equal(resumed["optimizer_states"], whole["optimizer_states"])


def assert_equal(left: Any, right: Any) -> None:
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        assert_equal(list(left.values()), [right[key] for key in left])
    elif isinstance(left, list):
        assert len(left) == len(right)
        for ours, theirs in zip(left, right):
            assert_equal(ours, theirs)
    else:
        assert left == right


@pytest.mark.cluster
def test_workers_accumulate_as_one_large_batch(running_ray: None, videos: Path, tmp_path: Path) -> None:
    """Updates of two workers with two clips each, and of a worker with all four; the former stop between."""
    # Nothing is drawn but clips and prompts, and an update is the gradient itself.
    plain = (
        *("model.memory_dropout=0", "optimizer.type=sgd", "optimizer.betas=[0.0,0.999]", "optimizer.lr=0.1"),
        *("scheduler.enabled=false", "scheduler.warmup_steps=0", "scheduler.T_max=null"),
        *("trainer.gradient_clip_val=0", "trainer.limit_val_batches=1", "resume=auto"),
        *("loggers=[csv]", "mlflow_uri=null"),
    )

    def weights(name: str, *division: str) -> dict[str, torch.Tensor]:
        fit(config_of(videos, tmp_path / name, *plain, *division))
        last = torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        assert last["SAM2LightningDataModule"]["samples_seen"] == 4 * last["global_step"]
        return last["state_dict"]

    divided = ("dataset.batch_size=1", "trainer.accumulate_grad_batches=2")
    before = weights("several", "trainer.max_steps=1", *divided)
    several = weights("several", "trainer.max_steps=2", *divided)
    one = weights("one", "trainer.max_steps=2", "dataset.batch_size=4", "ray.num_workers=1")
    assert several.keys() == one.keys() == before.keys()
    largest = max(float((several[name] - value).abs().max()) for name, value in before.items())
    assert largest > 1e-4
    for name, value in one.items():
        assert float((several[name] - value).abs().max()) <= 1e-6, name


def noting(who: str, log: Path, load: Callable[..., Any]) -> Callable[..., Any]:
    """`load` that also writes down which file."""

    def noted(file: Any, *arguments: Any, **named: Any) -> Any:
        with log.open("a") as lines:
            lines.write(f"{who} {getattr(file, 'name', file)}\n")
        return load(file, *arguments, **named)

    return noted


def noting_worker(log: Path) -> Callable[[Job], Any]:
    """A worker that writes down what it loads; it travels by value, tests are not imported there."""
    noted = noting("worker", log, torch.load)

    def work(job: Job) -> Any:
        torch.load = noted
        return train_on_worker(job)

    return work


@pytest.mark.cluster
def test_goes_on_with_half_the_workers(
    finished: tuple[Path, RunSummary],
    stopped: Path,
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A step takes the same clips in two rounds; steps, rows and positions mean what they meant.

    The worker alone loads the checkpoint, once.
    """
    run, log = tmp_path / "run", tmp_path / "loads"
    shutil.copytree(stopped, run)
    resumed_from = run / "checkpoints" / "step_00000003.ckpt"
    worker = noting_worker(log)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", noting("driver", log, torch.load))
        summary = fit(config_of(videos, run, "resume=auto", "ray.num_workers=1"), worker)
    assert summary.steps == STEPS
    assert [line for line in log.read_text().splitlines() if resumed_from.name in line] == [
        f"worker {resumed_from}"
    ]
    whole, resumed = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (finished[0], run)
    )
    position, expected = resumed["SAM2LightningDataModule"], whole["SAM2LightningDataModule"]
    assert position == {**expected, "rounds": 2, "batches_seen": 2 * STEPS}
    assert resumed["lr_schedulers"][0]["last_epoch"] == whole["lr_schedulers"][0]["last_epoch"]
    with (run / "results.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == [0, 2, 3, 4, 7, STEPS]


@pytest.mark.parametrize(
    ("override", "message"),
    [("optimizer.type=lion", "optimizer.type"), ("no_such_key=1", "no_such_key")],
)
def test_exit_code_of_a_bad_configuration(videos: Path, tmp_path: Path, override: str, message: str) -> None:
    command = [sys.executable, str(REPO / "ray_jobs" / "train.py"), "experiment=demo", override]
    result = subprocess.run(
        [*command, f"dataset.data_path={videos}", f"output_dir={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
