"""A run that was killed at any point and started again ends as one that was not: weights, optimizer, rows."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sam2vt.composing import compose_config
from sam2vt.config import Config
from sam2vt.configuration.loading import load_config
from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.distributed.launch import fit
from tests.fault import kill_points
from tests.fault.kill_points import EPOCHS, POINTS, SAVED, SAVED_EVERY, STEPS, STEPS_AN_EPOCH
from tests.fault.runs import traced
from tests.fault.trace import Log

REPO = Path(__file__).resolve().parents[2]
TIMES = {"seconds"}

Run = Callable[..., int]


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


def outcome(folder: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The newest checkpoint, and the rows of results.csv without times."""
    store = CheckpointStore(str(folder / "run" / "checkpoints"))
    newest = store.newest()
    assert newest is not None
    assert newest.step == STEPS
    with (folder / "run" / "results.csv").open() as file:
        rows = [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]
    return torch.load(store.path(newest), weights_only=True), rows


def assert_same(state: Any, other: Any, name: str = "") -> None:
    """Nested containers of tensors and numbers, equal to the bit."""
    if isinstance(state, torch.Tensor):
        assert torch.equal(state, other), name
    elif isinstance(state, dict):
        assert state.keys() == other.keys(), name
        for key, value in state.items():
            assert_same(value, other[key], f"{name}.{key}")
    elif isinstance(state, (list, tuple)):
        assert len(state) == len(other), name
        for index, pair in enumerate(zip(state, other)):
            assert_same(*pair, f"{name}.{index}")
    else:
        assert state == other, f"{name}: {state} != {other}"


@pytest.fixture(scope="module")
def undisturbed(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert run(folder) == 0, (folder / "log").read_text()
    state, rows = outcome(folder)
    assert [int(row["step"]) for row in rows] == [0, STEPS_AN_EPOCH, STEPS]
    assert all(float(row["train/loss"]) > 0 for row in rows[1:])
    return state, rows


@pytest.mark.parametrize("point", POINTS)
def test_local(
    run: Run, undisturbed: Any, tmp_path: Path, point: str, figures: Callable[[str], None]
) -> None:
    assert run(tmp_path, kill=point) == -9, (tmp_path / "log").read_text()
    assert (tmp_path / "killed").exists()
    started = time.time()
    assert run(tmp_path, note=POINTS[point]) == 0, (tmp_path / "log").read_text()
    newest = SAVED[point]
    said = f"step_{newest:08d}.ckpt, step {newest}" if newest else "starting from step 0"
    assert said in (tmp_path / "log").read_text()
    for name, ours, whole in zip(("state", "rows"), outcome(tmp_path), undisturbed):
        if name == "rows":
            assert ours == whole
            continue
        for key in (
            "state_dict",
            "optimizer_states",
            "lr_schedulers",
            "SAM2LightningDataModule",
            "callbacks",
        ):
            assert_same(ours[key], whole[key], key)
    seconds = float((tmp_path / "recovered").read_text()) - started
    figures(f"{POINTS[point] - newest} steps repeated, {seconds:.1f} s from its start to the same step again")


def ray_config(videos: Path, output_dir: Path, *more: str) -> Config:
    """The same run on two workers, which take two clips a step."""
    local = [each for each in overrides_of(videos, output_dir) if not each.startswith("hydra.")]
    ray = ("ray.num_workers=2", f"dataset.clips_per_video={STEPS_AN_EPOCH}", "ray.local_cpus=4")
    return load_config(compose_config([*local, *ray, "ray.collective_timeout_seconds=30", *more]))


@pytest.fixture(scope="module")
def undisturbed_on_ray(
    videos: Path, local_ray: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("undisturbed-on-ray")
    fit(ray_config(videos, folder / "run"))
    return outcome(folder)


# Each run is killed at several points, one after the other: rank and point.
KILLS = (
    ((1, "first step"), (0, "last step of an epoch")),
    ((1, "in validation"), (0, "mid-epoch")),
    ((0, "in a checkpoint write, the state"), (0, "in a checkpoint write, the manifest"), (1, "last step")),
)


class KillAll:
    """Called in a worker, before it trains."""

    def __init__(self, folder: Path, kills: Sequence[tuple[int, str]]) -> None:
        self.folder, self.kills = folder, kills

    def __call__(self) -> None:
        for rank, point in self.kills:
            kill_points.KillAt(point, self.marker(point).parent, rank).install()

    def marker(self, point: str) -> Path:
        folder = self.folder / point
        folder.mkdir(exist_ok=True)
        return folder / "killed"


@pytest.mark.parametrize("kills", KILLS, ids=lambda kills: " - ".join(point for _, point in kills))
def test_ray(
    kills: Sequence[tuple[int, str]],
    videos: Path,
    undisturbed_on_ray: Any,
    tmp_path: Path,
    figures: Callable[[str], None],
) -> None:
    """The workers are started again by themselves, each time from the newest complete checkpoint."""
    kill, log = KillAll(tmp_path, kills), Log(tmp_path / "trace")
    config = ray_config(videos, tmp_path / "run", f"ray.max_failures={len(kills)}")
    fit(config, traced(log.folder, before=kill))
    assert [group.first for group in log.groups()] == [0, *(SAVED[point] for _, point in kills)]
    state, rows = outcome(tmp_path)
    assert rows == undisturbed_on_ray[1]
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "SAM2LightningDataModule", "callbacks"):
        assert_same(state[key], undisturbed_on_ray[0][key], key)
    for (_, point), group, repeated in zip(kills, log.groups()[1:], log.repeats()):
        seconds = group.next_done(float(kill.marker(point).read_text()))
        figures(f"{point}: {repeated} steps repeated, next step after {seconds:.0f} s")
