from __future__ import annotations

import logging
import runpy
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from sam2vt.config import Config, DatasetConfig, RayConfig, TrainerConfig
from sam2vt.distributed.cluster import preflight
from sam2vt.distributed.cluster.capacity import Autoscaler, Capacity, Node, NodeType, clip_bytes
from sam2vt.distributed.cluster.preflight import (
    check_cluster,
    check_config,
    find_clip_faults,
    find_faults,
    find_storage_faults,
)
from sam2vt.distributed.cluster.session import sigterm_as_before
from sam2vt.distributed.cluster.storage import RunStorage, find_unshared, run_storage
from sam2vt.errors import ConfigError

REPO = Path(__file__).resolve().parents[4]
GIB = 2**30


def nodes(*resources: dict[str, float], labels: dict[str, str] | None = None) -> Capacity:
    return Capacity([Node({"object_store_memory": GIB, **each}, labels or {}) for each in resources])


def test_a_cluster_that_suffices() -> None:
    config = Config(ray=RayConfig(num_workers=2, cpus_per_worker=2, decode_actors=3))
    assert find_faults(config, nodes({"CPU": 8})) == []


def test_refuses_to_starve_the_data() -> None:
    config = Config(ray=RayConfig(num_workers=2, cpus_per_worker=2, decode_actors=3))
    (fault,) = find_faults(config, nodes({"CPU": 7}))
    assert "ray.num_workers=2 x ray.cpus_per_worker=2 + ray.decode_actors=3 + 1 to feed them = 8" in fault
    assert "the cluster has 7" in fault
    assert "ray.local_cpus=8" in fault


def test_refuses_too_few_gpus_and_other_resources() -> None:
    config = Config(ray=RayConfig(num_workers=4, use_gpu=True, worker_resources={"fast": 0.5}))
    gpus, fast = find_faults(config, nodes({"CPU": 64, "GPU": 2, "fast": 1}))
    assert "ray.num_workers=4 x 1 = 4, but the cluster has 2" in gpus
    assert "fast: ray.num_workers=4 x 0.5 = 2, but the cluster has 1" in fast


def test_names_all_faults_of_a_cluster_without_anything() -> None:
    assert len(find_faults(Config(ray=RayConfig(use_gpu=True)), Capacity([]))) == 3


def test_an_elastic_run_needs_its_least_and_says_when_its_most_does_not_fit(caplog) -> None:
    config = Config(ray=RayConfig(num_workers={"min": 2, "max": 8}))
    (fault,) = find_faults(config, nodes({"CPU": 3}))
    assert "ray.num_workers.min=2 x ray.cpus_per_worker=1 + ray.decode_actors=1 + 1 to feed them = 4" in fault
    config.ray.worker_resources = {"slot": 1}
    assert find_faults(config, nodes({"CPU": 5, "slot": 3})) == []
    with caplog.at_level(logging.WARNING):
        preflight._say_how_many_fit(config.ray, nodes({"CPU": 5, "slot": 3}))
    assert "of up to 8 workers (ray.num_workers) 3 fit on the nodes there are" in caplog.text


def test_an_elastic_run_must_not_grow_into_the_decoders_places() -> None:
    """Ray Train starts as many workers as the nodes hold, whatever that leaves for decoding."""
    config = Config(ray=RayConfig(num_workers={"min": 2, "max": 8}, decode_actors=2))
    (fault,) = find_faults(config, nodes({"CPU": 8}))
    assert "8 workers, as many of ray.num_workers={'min': 2, 'max': 8} as find a place, x" in fault
    assert "= 11, but the cluster has 8" in fault
    assert find_faults(config, nodes({"CPU": 11})) == []


def test_workers_must_not_take_the_labelled_nodes() -> None:
    config = Config(ray=RayConfig(num_workers=4, decode_labels={"pool": "data"}))
    train, data = Node({"CPU": 4}, {"pool": "train"}), Node({"CPU": 4}, {"pool": "data"})
    capacity = Capacity([train, data, Node({"object_store_memory": GIB}, {})])
    (fault,) = find_faults(config, capacity)
    assert "4 workers x ray.cpus_per_worker=1 find a place on nodes with ray.decode_labels" in fault
    config.ray.worker_resources = {"slot": 1}
    train.resources["slot"] = 4  # type: ignore[index]
    assert find_faults(config, capacity) == []


@pytest.mark.parametrize(("limit", "workers"), [(1, {"min": 1, "max": 2}), (0.5, {"min": 1, "max": 2})])
def test_a_limit_of_each_workers_validation_needs_their_number(
    limit: float, workers: dict[str, int], tmp_path: Path
) -> None:
    config = Config(output_dir=str(tmp_path), trainer=TrainerConfig(limit_val_batches=limit))
    check_config(config, run_storage(config))
    config.ray.num_workers = workers
    with pytest.raises(ConfigError, match=f"trainer.limit_val_batches={limit} and ray.num_workers"):
        check_config(config, run_storage(config))


def test_a_database_of_one_machine_is_no_store_of_a_remote_run(tmp_path: Path) -> None:
    config = Config(loggers=["mlflow"], mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db")
    check_config(config, run_storage(config))
    config.ray.storage_path = f"file://{tmp_path}/remote"
    with pytest.raises(ConfigError, match="mlflow_uri=sqlite.* with ray.storage_path=.*an MLflow server"):
        check_config(config, run_storage(config))


def test_a_password_in_mlflow_s_variable_reaches_no_worker(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host:5000")
    config = Config(loggers=["mlflow"], output_dir=str(tmp_path / "run"))
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI contains a password.*_USERNAME") as raised:
        check_config(config, run_storage(config))
    assert "secret" not in str(raised.value)


def test_checkpoints_of_a_remote_run_lie_in_its_storage(tmp_path: Path) -> None:
    config = Config(output_dir=str(tmp_path / "a"), save_dir=str(tmp_path / "kept"))
    check_config(config, run_storage(config))
    config.ray.storage_path = f"file://{tmp_path}/remote"
    with pytest.raises(ConfigError, match="save_dir=.*leave save_dir at its default"):
        check_config(config, run_storage(config))


def test_a_worker_needs_its_resources_on_one_node() -> None:
    config = Config(ray=RayConfig(num_workers=2, cpus_per_worker=4))
    (fault,) = find_faults(config, nodes({"CPU": 6}, {"CPU": 3}, {"CPU": 3}))
    assert "a worker takes CPU 4 of a single node, so that 1 of ray.num_workers=2 find a place" in fault
    assert "the nodes have CPU 3; CPU 6" in fault
    assert find_faults(config, nodes({"CPU": 6}, {"CPU": 4})) == []


def test_decoders_are_counted_where_their_labels_are() -> None:
    config = Config(ray=RayConfig(num_workers=1, decode_actors=2, decode_labels={"pool": "data"}))
    train, data = (
        Node({"CPU": 16, "object_store_memory": GIB}, {"pool": "train"}),
        Node({"CPU": 2}, {"pool": "data"}),
    )
    (fault,) = find_faults(config, Capacity([train, data]))
    assert "ray.decode_actors=2 + 1 to feed them = 3 CPUs on nodes with ray.decode_labels=" in fault
    assert "those have 2; the labels of the nodes there are: pool=data, pool=train" in fault
    (fault,) = find_faults(config, Capacity([train]))
    assert "those have 0" in fault
    assert find_faults(config, Capacity([train, data, data])) == []


def test_an_autoscaler_may_bring_what_is_not_there() -> None:
    types = [
        NodeType("train", {"CPU": 4, "GPU": 1}, {"pool": "train"}, 2),
        NodeType("data", {"CPU": 4}, {"pool": "data"}, 1),
    ]
    capacity = Capacity([Node({"CPU": 0}, {})], Autoscaler(types, 3))
    settings = {"use_gpu": True, "cpus_per_worker": 4, "decode_actors": 3, "decode_labels": {"pool": "data"}}
    assert find_faults(Config(ray=RayConfig(num_workers=2, **settings)), capacity) == []
    faults = find_faults(Config(ray=RayConfig(num_workers=3, **{**settings, "decode_actors": 4})), capacity)
    assert [fault.split(":")[0] for fault in faults] == ["CPUs", "decoding", "GPUs"]
    assert "the cluster may grow to 12" in faults[0]
    crossed = RayConfig(num_workers=1, worker_resources={"GPU_type": 1}, cpus_per_worker=5)
    both = Capacity([], Autoscaler([*types, NodeType("odd", {"CPU": 2, "GPU_type": 1}, {}, 4)], 9))
    (fault,) = find_faults(Config(ray=crossed), both)
    assert "so that 0 of ray.num_workers=1 find a place" in fault


def test_the_prefetch_must_fit_in_the_object_store() -> None:
    data = DatasetConfig(image_size=(1024, 1024), video_clip_length=8, batch_size=4)
    config = Config(dataset=data, ray=RayConfig(num_workers=4, prefetch_batches=3, decode_actors=2))
    assert clip_bytes(config) == 8 * 1024 * 1024 * 3 + 8 * 1024 * 1024 * 3 // 8
    (fault,) = find_faults(config, nodes({"CPU": 16}))
    assert "(ray.num_workers=4 x ray.prefetch_batches=3 + ray.decode_actors=2 x 2 in flight)" in fault
    assert "x dataset.batch_size=4 x 27.0 MiB per clip = 1728 MiB, but the cluster has 1024 MiB" in fault
    assert find_faults(config, nodes({"CPU": 16}, {"CPU": 1})) == []


def test_clips_of_features_must_fit_in_the_object_store_once_their_size_is_known() -> None:
    config = Config(dataset=DatasetConfig(feature_cache="features", batch_size=4))
    assert find_faults(config, nodes({"CPU": 8})) == []
    assert find_clip_faults(config, nodes({"CPU": 8}), 2 * 2**20) == []
    (fault,) = find_clip_faults(config, nodes({"CPU": 8}), 11 * 2**20)
    assert "x 55.5 MiB per clip" in fault


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        (TrainerConfig(devices=2), "trainer.devices=2 and ray.num_workers=2"),
        (TrainerConfig(accelerator="gpu"), "trainer.accelerator=gpu and ray.use_gpu=False"),
        (TrainerConfig(enable_checkpointing=False), "trainer.enable_checkpointing=false"),
    ],
)
def test_refuses_what_ray_replaces(trainer: TrainerConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(Config(trainer=trainer), run_storage(Config()))


@pytest.mark.parametrize("accelerator", ["auto", "cpu"])
def test_accepts_what_agrees(accelerator: str) -> None:
    check_config(Config(trainer=TrainerConfig(accelerator=accelerator)), run_storage(Config()))


def test_refuses_a_folder_that_holds_another_run(tmp_path: Path) -> None:
    config = Config(output_dir=str(tmp_path / "run"))
    check_config(config, run_storage(config))
    checkpoint = tmp_path / "run" / "checkpoints" / "step_00000004.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"")
    with pytest.raises(ConfigError, match="run/checkpoints holds the checkpoints of an earlier run"):
        check_config(config, run_storage(config))
    for resume in ("auto", str(checkpoint), str(tmp_path / "run")):
        config.resume = resume
        check_config(config, run_storage(config))
    config.resume = str(tmp_path / "run2")
    with pytest.raises(ConfigError, match="earlier run"):
        check_config(config, run_storage(config))


@pytest.mark.parametrize(
    ("storage_path", "grows", "refused"),
    [
        (None, False, False),
        (None, True, True),
        ("/shared/runs", True, False),
        ("s3://bucket/runs", True, False),
    ],
)
def test_nodes_to_come_need_storage_that_is_named(
    storage_path: str | None, grows: bool, refused: bool
) -> None:
    config = Config(output_dir="runs/a", ray=RayConfig(storage_path=storage_path))
    capacity = Capacity([], Autoscaler([], 2) if grows else None)
    faults = find_storage_faults(config, run_storage(config), capacity)
    assert len(faults) == refused
    if refused:
        assert "output_dir=runs/a is a folder of this machine" in faults[0]


def test_memory_alone_on_single_frames_is_refused_before_ray_is_loaded(tmp_path: Path, capsys) -> None:
    main = runpy.run_path(str(REPO / "ray_jobs" / "train.py"))["main"]
    with pytest.raises(SystemExit) as end:
        main(
            [
                "experiment=demo",
                f"dataset.data_path={tmp_path}",
                "dataset.video_clip_length=1",
                "dataset.max_frame_stride=null",
                "valdataset.video_clip_length=1",
                "dataset.prompt_types=[point]",
                "model.trainable_modules=[memory_attention,memory_encoder]",
            ]
        )
    assert end.value.code == 2
    assert "nothing would train; use clips of at least 2" in capsys.readouterr().err


@pytest.mark.cluster
def test_every_node_writes_where_the_driver_sees_it(tmp_path: Path) -> None:
    with sigterm_as_before():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
        try:
            for _ in range(2):
                cluster.add_node(num_cpus=2)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
            cluster.wait_for_nodes()
            storage = RunStorage(str(tmp_path / "run"))
            config = Config(output_dir=storage.root, dataset=DatasetConfig(batch_size=1))
            check_cluster(config, storage)
            assert list((tmp_path / "run").iterdir()) == []

            own = ray.get_runtime_context().get_node_id()
            first = next(n["NodeID"] for n in ray.nodes() if n["NodeID"] != own)

            def write(root: str, name: str) -> None:
                import ray

                if ray.get_runtime_context().get_node_id() == first:
                    raise OSError("read-only file system")

            failed, unseen = sorted(find_unshared(storage, write=write))
            assert "cannot write to" in failed
            assert "(read-only file system)" in failed
            assert "does not appear here, the folder is not shared" in unseen

            def hang(root: str, name: str) -> None:
                import time

                time.sleep(600)

            assert all("did not write" in fault for fault in find_unshared(storage, 3.0, hang))

            with pytest.raises(ConfigError) as error:
                check_cluster(Config(ray=RayConfig(num_workers=40, use_gpu=True)), RunStorage("nowhere://x"))
            assert [line.split(":")[0] for line in str(error.value).splitlines()[1:]] == [
                "  - CPUs",
                "  - GPUs",
                "  - ray.storage_path",
            ]
        finally:
            ray.shutdown()
            cluster.shutdown()
