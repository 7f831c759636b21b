"""What just fits a cluster, what is one too many, and which words a fault uses; no Ray is asked."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam2vt.config import Config, DatasetConfig, RayConfig, TrainerConfig
from sam2vt.core.storage.folder import Folder
from sam2vt.distributed.cluster import preflight
from sam2vt.distributed.cluster.capacity import Autoscaler, Capacity, Node, NodeType
from sam2vt.distributed.cluster.preflight import check_cluster, check_config, find_clip_faults, find_faults
from sam2vt.distributed.cluster.storage import RunStorage, run_storage
from sam2vt.errors import ConfigError

MIB = 2**20
ELASTIC = {"min": 2, "max": 8}


def nodes(*resources: dict[str, float], labels: dict[str, str] | None = None) -> list[Node]:
    return [Node({"object_store_memory": 1024 * MIB, **each}, labels or {}) for each in resources]


def capacity(*resources: dict[str, float]) -> Capacity:
    return Capacity(nodes(*resources))


def configured(tmp_path: Path, trainer: dict[str, Any] | None = None, **settings: Any) -> Config:
    ray = RayConfig(**settings)
    return Config(output_dir=str(tmp_path / "run"), trainer=TrainerConfig(**trainer or {}), ray=ray)


# Of the configuration alone


@pytest.mark.parametrize(
    ("trainer", "use_gpu", "refused"),
    [
        ({"devices": 1}, False, False),
        ({"devices": 2}, False, True),
        ({"accelerator": "gpu"}, True, False),
        ({"accelerator": "gpu"}, False, True),
        ({"accelerator": "cpu"}, True, True),
        ({"accelerator": "cpu"}, False, False),
        ({"accelerator": "auto"}, True, False),
    ],
)
def test_only_what_ray_decides_otherwise_is_refused(
    trainer: dict[str, Any], use_gpu: bool, refused: bool, tmp_path: Path
) -> None:
    config = configured(tmp_path, trainer, use_gpu=use_gpu)
    if not refused:
        check_config(config, run_storage(config))
        return
    with pytest.raises(ConfigError) as error:
        check_config(config, run_storage(config))
    heading, fault = str(error.value).splitlines()
    assert heading == "the configuration does not suit Ray:"
    assert fault.startswith(f"  - trainer.{next(iter(trainer))}={next(iter(trainer.values()))} and ray.")


@pytest.mark.parametrize(
    ("limit", "refused"), [(0, False), (1, True), (7, True), (0.5, True), (0.99, True), (1.0, False)]
)
def test_a_limit_counts_for_workers_that_come_and_go(limit: float, refused: bool, tmp_path: Path) -> None:
    for workers in (2, ELASTIC):
        config = configured(tmp_path, {"limit_val_batches": limit}, num_workers=workers)
        if refused and workers == ELASTIC:
            with pytest.raises(ConfigError, match=f"limit_val_batches={limit} and ray.num_workers="):
                check_config(config, run_storage(config))
        else:
            check_config(config, run_storage(config))


def test_a_remote_run_keeps_its_default_folder_of_checkpoints(tmp_path: Path) -> None:
    config = configured(tmp_path, storage_path=f"file://{tmp_path}/remote")
    check_config(config, run_storage(config))


def test_a_run_resumes_its_own_checkpoints_by_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "step_00000004.ckpt").write_bytes(b"")
    local, remote = configured(tmp_path), configured(tmp_path, storage_path=f"file://{tmp_path}")
    for config, resume in (
        (local, "run"),
        (local, "run/checkpoints/step_00000004.ckpt"),
        (remote, f"file://{tmp_path}/run"),
        (remote, f"file://{tmp_path}/run/checkpoints"),
    ):
        config.resume = resume
        check_config(config, run_storage(config))
    for config, resume in ((local, "other"), (local, None), (remote, f"file://{tmp_path}/other")):
        config.resume = resume
        with pytest.raises(ConfigError, match="checkpoints of an earlier run"):
            check_config(config, run_storage(config))


def test_storage_that_does_not_answer_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fail(folder: Folder) -> None:
        asked.append(folder)
        raise OSError("no answer")

    monkeypatch.setattr(Folder, "sizes", fail)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it was to be asked once"))
    config = configured(tmp_path)
    check_config(config, run_storage(config))
    assert len(asked) == 1


# Of the cluster


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[str], list[str]]]:
    """Returns the faults of `check_cluster` and the folders that it asks the nodes for."""

    def check(
        config: Config, storage: RunStorage, there: Capacity, unwritable: str = ""
    ) -> tuple[list[str], list[str]]:
        asked: list[str] = []

        def find_unshared(storage: RunStorage) -> list[str]:
            asked.append(storage.root)
            return [f"unshared {storage.root}"] if storage.root.startswith("/own") else []

        def check_writable(storage: RunStorage) -> None:
            if unwritable:
                raise ConfigError(unwritable)

        monkeypatch.setattr(preflight, "cluster_capacity", lambda: there)
        monkeypatch.setattr(preflight, "find_unshared", find_unshared)
        monkeypatch.setattr(preflight, "check_writable", check_writable)
        try:
            check_cluster(config, storage)
        except ConfigError as error:
            heading, *faults = str(error).splitlines()
            assert heading == "the cluster cannot run this:"
            return [fault.removeprefix("  - ") for fault in faults], asked
        return [], asked

    return check


def test_all_faults_of_a_cluster_come_in_one_error(checked) -> None:
    config = Config(output_dir="runs/a", ray=RayConfig(num_workers=2, use_gpu=True))
    may_grow = Capacity([], Autoscaler([NodeType("cpu", {"CPU": 8}, {}, 1)], 1))
    faults, _ = checked(config, RunStorage("/own/a"), may_grow)
    assert [fault.partition(":")[0] for fault in faults] == ["GPUs", "storage", "unshared /own/a"]
    faults, asked = checked(config, RunStorage("/own/a"), may_grow, unwritable="cannot write")
    assert [fault.partition(":")[0] for fault in faults] == ["GPUs", "storage", "cannot write"]
    assert asked == []  # what this machine cannot write is not asked of the nodes


def test_the_folder_of_mlflow_s_database_is_asked_for(checked) -> None:
    config = Config(loggers=["mlflow"], mlflow_uri="sqlite:////own/mlflow.db")
    assert checked(config, RunStorage("/a"), capacity({"CPU": 6})) == (["unshared /own"], ["/a", "/own"])
    config.mlflow_uri = "http://host:5000"
    assert checked(config, RunStorage("/a"), capacity({"CPU": 6})) == ([], ["/a"])


@pytest.mark.parametrize(
    ("save_dir", "features", "asked"),
    [
        (None, None, ["/a"]),
        ("/kept", None, ["/a", "/kept"]),
        (None, "/features", ["/a", "/features"]),
        ("/kept", "s3://bucket/features", ["/a", "/kept"]),
    ],
)
def test_each_folder_of_a_run_is_asked_for(
    save_dir: str | None, features: str | None, asked: list[str], checked, caplog
) -> None:
    config = Config(dataset=DatasetConfig(feature_cache=features), ray=RayConfig(num_workers=4))
    with caplog.at_level(logging.WARNING):
        assert checked(config, RunStorage("/a", save_dir), capacity({"CPU": 6})) == ([], asked)
        assert caplog.messages == []
        # A managed cluster may grow to six; three workers have no place yet.
        may_grow = Capacity(nodes({"CPU": 3}), None, {"CPU": 6})
        config.ray.storage_path = "/"
        assert checked(config, RunStorage("/a", save_dir), may_grow) == ([], asked)
    (message,) = caplog.messages
    assert "of up to 4 workers (ray.num_workers) 1 fit on the nodes there are" in message


def test_clips_are_counted_unless_their_size_is_unknown() -> None:
    config = Config(ray=RayConfig(num_workers=1))
    there = capacity({"CPU": 3, "object_store_memory": 1})
    (fault,) = find_faults(config, there)
    assert fault.startswith("object store: (ray.num_workers=1 x ")
    config.dataset.feature_cache = "features"
    assert find_faults(config, there) == []


def test_the_clips_in_flight_may_fill_the_object_store() -> None:
    """8 frames of 3 + 3/8 bytes per pixel, (4 x 3 + 2 x 2) batches of 4: 1728 MiB."""
    data = DatasetConfig(image_size=(1024, 1024), video_clip_length=8, batch_size=4)
    config = Config(dataset=data, ray=RayConfig(num_workers=4, prefetch_batches=3, decode_actors=2))
    assert find_clip_faults(config, capacity({"object_store_memory": 1728 * MIB})) == []
    (fault,) = find_clip_faults(config, capacity({"object_store_memory": 1728 * MIB - 1}))
    assert "= 1728 MiB, but the cluster has 1728 MiB" in fault
    assert find_clip_faults(config, Capacity(nodes({"CPU": 1}), Autoscaler([], 1))) == []


def test_decoders_may_take_all_of_the_labelled_nodes() -> None:
    settings = RayConfig(num_workers=2, decode_labels={"pool": "data"}, worker_resources={"slot": 1})
    there = [*nodes({"CPU": 2, "slot": 2}), *nodes({"CPU": 2}, labels={"pool": "data"})]
    assert find_faults(Config(ray=settings), Capacity(there)) == []
    settings.decode_actors = 2
    there[1].labels["ray.io/node-id"] = "f00"  # type: ignore[index]
    (fault,) = find_faults(Config(ray=settings), Capacity([*there, *nodes({"CPU": 1})]))
    assert "those have 2; the labels of the nodes there are: pool=data. Start Ray" in fault
    (fault,) = find_faults(Config(ray=settings), Capacity(nodes({"CPU": 5, "slot": 2})))
    assert "those have 0; the labels of the nodes there are: none. Start Ray" in fault


def test_workers_may_be_beside_the_decoders_as_long_as_both_fit() -> None:
    """Three workers of 2 CPUs would find a place there, but two are started."""
    config = Config(ray=RayConfig(num_workers=2, cpus_per_worker=2, decode_labels={"pool": "data"}))
    data = {"pool": "data"}
    assert find_faults(config, Capacity(nodes({"CPU": 6}, labels=data))) == []
    (fault,) = find_faults(config, Capacity([*nodes({"CPU": 5}, labels=data), *nodes({"CPU": 1})]))
    assert fault.startswith("decoding: 2 workers x ray.cpus_per_worker=2 find a place on nodes with")
    assert "which have 5 CPUs; 2 must stay for decoding" in fault


def test_other_resources_may_be_used_up() -> None:
    settings = RayConfig(num_workers=4, use_gpu=True, worker_resources={"fast": 0.5})
    assert find_faults(Config(ray=settings), capacity({"CPU": 6, "GPU": 4, "fast": 2})) == []
    gpus, fast = find_faults(Config(ray=settings), capacity({"CPU": 6, "GPU": 3, "fast": 1.5}))
    assert gpus.startswith("GPUs: ray.num_workers=4 x 1 = 4, but the cluster has 3; ")
    assert gpus.endswith("or set ray.use_gpu=false")
    assert fast.startswith("fast: ray.num_workers=4 x 0.5 = 2, but the cluster has 1.5; ")
    assert fast.endswith("or change ray.worker_resources")
    settings.num_workers = ELASTIC
    gpus, _ = find_faults(Config(ray=settings), capacity({"CPU": 6, "GPU": 1, "fast": 0.5}))
    assert gpus.startswith("GPUs: ray.num_workers.min=2 x 1 = 2, but the cluster has 1; ")


def test_sums_that_suffice_are_no_place_for_a_worker() -> None:
    """Two halves of a slot are there, but only one of them beside 2 CPUs."""
    settings = RayConfig(num_workers=2, cpus_per_worker=2, worker_resources={"slot": 0.5})
    there = nodes({"CPU": 1, "slot": 0.5}, {"CPU": 9, "slot": 0.5}, {"CPU": 1})
    (fault,) = find_faults(Config(ray=settings), Capacity(there))
    assert "a worker takes CPU 2, slot 0.5 of a single node, so that 1 of ray.num_workers=2 find" in fault
    assert "the nodes have CPU 1, slot 0; CPU 1, slot 0.5; CPU 9, slot 0.5. Lower" in fault
    # A managed cluster tells sums alone.
    assert find_faults(Config(ray=settings), Capacity(there, None, {"CPU": 20, "slot": 9})) == []


def test_nodes_to_come_are_named_among_those_there_are() -> None:
    settings = RayConfig(num_workers=1, cpus_per_worker=4)
    kinds = [NodeType("small", {"CPU": 3}, {}, 4)]
    (fault,) = find_faults(Config(ray=settings), Capacity(nodes({"CPU": 2}), Autoscaler(kinds, 4)))
    assert "so that 0 of ray.num_workers=1 find a place; the nodes have CPU 2; CPU 3. Lower" in fault


@pytest.mark.parametrize(
    ("workers", "cpus", "fit"),
    [
        (3, 8, None),  # 2 are for decoding, 6 for three workers of 2
        (4, 8, 3),
        (4, 9, 3),
        (4, 1, 0),
        (4, 4, 1),
        ({"min": 1, "max": 4}, 8, 3),
        ({"min": 1, "max": 3}, 8, None),
    ],
)
def test_says_how_many_workers_fit_beside_the_decoders(
    workers: Any, cpus: int, fit: int | None, caplog
) -> None:
    settings = RayConfig(num_workers=workers, cpus_per_worker=2)
    with caplog.at_level(logging.WARNING):
        preflight._say_how_many_fit(settings, capacity({"CPU": cpus}))
    if fit is None:
        assert caplog.messages == []
        return
    later = (
        "it begins when nodes for the others have come"
        if workers == 4
        else "the run begins with at least 1 and grows as nodes come"
    )
    expected = f"of up to 4 workers (ray.num_workers) {fit} fit on the nodes there are; {later}"
    assert caplog.messages == [expected]
