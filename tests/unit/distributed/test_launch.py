from __future__ import annotations

from pathlib import Path

import pytest
import ray.exceptions
import ray.train

from sam2vt.config import Config, DatasetConfig, ModelConfig, RayConfig
from sam2vt.core.training.checkpoints.resume import ResumePoint
from sam2vt.core.training.checkpoints.store import CheckpointInfo, CheckpointStore
from sam2vt.distributed.cluster.storage import run_storage
from sam2vt.distributed.launch import fit, leave_later_steps, own_error, with_absolute_paths
from sam2vt.distributed.source import ClipSource
from sam2vt.distributed.stream.start import Start
from sam2vt.errors import ConfigError, DataError


def test_paths_hold_in_any_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = Config(
        output_dir="runs/a",
        resume="old/last.ckpt",
        model=ModelConfig(checkpoint_path="hf://facebook/sam2.1-hiera-tiny"),
        dataset=DatasetConfig(data_path="videos", feature_cache="features"),
        valdatasets={"davis": {"data_path": "davis", "batch_size": 2}},
    )
    config = with_absolute_paths(config, run_storage(config))
    assert config.output_dir == str(tmp_path / "runs" / "a")
    assert config.save_dir == str(tmp_path / "runs" / "a" / "checkpoints")
    assert config.resume == str(tmp_path / "old" / "last.ckpt")
    assert config.model.checkpoint_path == "hf://facebook/sam2.1-hiera-tiny"
    assert config.dataset.data_path == str(tmp_path / "videos")
    assert config.valdataset.data_path == ""
    assert config.dataset.feature_cache == str(tmp_path / "features")
    assert config.valdataset.feature_cache is None
    assert config.dataset.image_root is None
    assert config.valdatasets == {"davis": {"data_path": str(tmp_path / "davis"), "batch_size": 2}}


@pytest.mark.parametrize("name", ["mine.yaml", "network/sam2.1_nano.yaml"])
def test_only_a_network_that_is_a_file_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    config = Config(output_dir="runs/a", model=ModelConfig(config_path=name))
    config = with_absolute_paths(config, run_storage(config))
    assert config.model.config_path == (str(tmp_path / name) if name == "mine.yaml" else name)


def test_local_storage_is_the_run_folder(tmp_path: Path) -> None:
    config = Config(output_dir="runs/a", save_dir="kept", ray=RayConfig(storage_path=str(tmp_path), name="b"))
    config = with_absolute_paths(config, run_storage(config))
    assert config.output_dir == str(tmp_path / "b")
    assert config.save_dir == str(Path("kept").absolute())


def test_finds_our_error_in_what_ray_wraps_around_it() -> None:
    own = DataError("video v: no mask")
    task_error = ray.exceptions.RayTaskError("f", "traceback", own)
    failed = ray.train.WorkerGroupError("failed", {0: RuntimeError("other"), 1: task_error})
    assert own_error(failed) is own


def test_finds_it_behind_an_exception_of_the_worker() -> None:
    error = RuntimeError("wrapped")
    error.__cause__ = ConfigError("seed")
    assert own_error(ray.train.WorkerGroupError("failed", {0: error})) is error.__cause__


def test_other_errors_are_not_ours() -> None:
    assert own_error(ray.train.WorkerGroupError("failed", {0: RuntimeError("segfault")})) is None


def put(store: CheckpointStore, step: int, tmp_path: Path, score: float | None = None) -> str:
    file = tmp_path / "state"
    file.write_bytes(b"%d" % step)
    return store.path(store.put(file, CheckpointInfo(step, 0, 2 * step, 2, "interval", score)))


def source_from(checkpoint: str) -> ClipSource:
    """Of a run that resumes from step 4."""
    return ClipSource(None, None, Start(4, 8, checkpoint), ([], []), ResumePoint(checkpoint, 4, None))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["step_00000004.ckpt", "best.ckpt", "../checkpoints/best.ckpt"])
def test_going_on_from_an_earlier_checkpoint_of_the_run_leaves_the_later_ones(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "a" / "checkpoints"
    store = CheckpointStore(str(folder))
    put(store, 4, tmp_path, score=0.9)
    put(store, 8, tmp_path, score=0.1)
    storage = run_storage(Config(output_dir=str(tmp_path / "a")))
    leave_later_steps(storage, source_from(str(folder / name)))
    assert [manifest.step for manifest in store.manifests()] == [4]


def test_going_on_from_another_run_leaves_its_checkpoints_alone(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path / "old" / "checkpoints"))
    earlier, _ = [put(store, step, tmp_path) for step in (4, 8)]
    leave_later_steps(run_storage(Config(output_dir=str(tmp_path / "a"))), source_from(earlier))
    assert len(store.manifests()) == 2


def test_an_address_that_is_none_is_said(tmp_path: Path) -> None:
    config = Config(output_dir=str(tmp_path / "a"), resume="auto")
    config.ray.storage_path = "nowhere://bucket"
    config.dataset.data_path = str(tmp_path)
    with pytest.raises(ConfigError, match=r"ray.storage_path: cannot read nowhere://bucket/a"):
        fit(config)
