"""cluster.yaml as Ray's own autoscaler reads it, without a cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

REPO = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load((REPO / "cluster.yaml").read_text())


def test_is_valid(cluster: dict[str, Any]) -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")
    util.validate_config(util.prepare_config(cluster))


def test_the_head_runs_no_work_and_the_rest_scales_from_nothing(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    assert set(types) == {"head", "gpu_train", "cpu_data"}
    assert types["head"]["resources"]["CPU"] == 0
    assert all(types[name]["min_workers"] == 0 for name in ("gpu_train", "cpu_data"))
    assert types["gpu_train"]["resources"]["GPU"] == 1
    assert "GPU" not in types["cpu_data"]["resources"]


def test_no_development_version_is_installed_by_default(cluster: dict[str, Any]) -> None:
    assert any("constraints.txt" in command for command in cluster["setup_commands"])


def test_the_cluster_settings_fit_on_it(cluster: dict[str, Any]) -> None:
    from omegaconf import OmegaConf

    from sam2vt.config import from_dict
    from sam2vt.distributed.preflight import find_faults
    from sam2vt.train import compose_config

    config = from_dict(OmegaConf.to_container(compose_config(["ray=cluster"]), resolve=True))
    most: dict[str, float] = {}
    for name, node in cluster["available_node_types"].items():
        count = 1 if name == "head" else node["max_workers"]
        for resource, number in node["resources"].items():
            most[resource] = most.get(resource, 0) + count * number
    assert find_faults(config, most) == []
