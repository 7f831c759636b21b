from __future__ import annotations

import pytest

from sam2vt.config import Config, RayConfig, TrainerConfig
from sam2vt.distributed.preflight import check_config, find_faults, find_storage_faults
from sam2vt.distributed.storage import run_storage
from sam2vt.errors import ConfigError


def test_a_cluster_that_suffices() -> None:
    config = Config(ray=RayConfig(num_workers=2, cpus_per_worker=2, decode_actors=3))
    assert find_faults(config, {"CPU": 8}) == []


def test_refuses_to_starve_the_data() -> None:
    config = Config(ray=RayConfig(num_workers=2, cpus_per_worker=2, decode_actors=3))
    (fault,) = find_faults(config, {"CPU": 7})
    assert "ray.num_workers=2 x ray.cpus_per_worker=2 + ray.decode_actors=3 + 1 to feed them = 8" in fault
    assert "the cluster has 7" in fault
    assert "ray.local_cpus=8" in fault


def test_refuses_too_few_gpus() -> None:
    config = Config(ray=RayConfig(num_workers=4, use_gpu=True))
    (fault,) = find_faults(config, {"CPU": 64, "GPU": 2})
    assert "ray.num_workers=4 x 1 = 4, but the cluster has 2" in fault


def test_names_all_faults_of_a_cluster_without_anything() -> None:
    assert len(find_faults(Config(ray=RayConfig(use_gpu=True)), {})) == 2


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
        check_config(Config(trainer=trainer))


@pytest.mark.parametrize("accelerator", ["auto", "cpu"])
def test_accepts_what_agrees(accelerator: str) -> None:
    check_config(Config(trainer=TrainerConfig(accelerator=accelerator)))


@pytest.mark.parametrize(
    ("storage_path", "num_nodes", "refused"),
    [(None, 1, False), (None, 2, True), ("/shared/runs", 2, False), ("s3://bucket/runs", 2, False)],
)
def test_several_nodes_need_storage_that_is_named(
    storage_path: str | None, num_nodes: int, refused: bool
) -> None:
    config = Config(output_dir="runs/a", ray=RayConfig(storage_path=storage_path))
    faults = find_storage_faults(config, run_storage(config), num_nodes)
    assert len(faults) == refused
    if refused:
        assert "output_dir=runs/a" in faults[0]
        assert "the cluster has 2 nodes; set ray.storage_path" in faults[0]
