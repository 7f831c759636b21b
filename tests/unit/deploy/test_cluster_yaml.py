"""The cluster configurations as Ray's own autoscaler reads them, without a cloud."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from omegaconf import OmegaConf
from ray.autoscaler._private.util import prepare_config, validate_config

from sam2vt.composing import compose_config
from sam2vt.config import Config
from sam2vt.configuration.loading import from_dict
from sam2vt.distributed.cluster.capacity import CONFIG_VARIABLE

REPO = Path(__file__).resolve().parents[3]
FILES = ("cluster.yaml", "deploy/gcp.yaml")


@pytest.fixture(params=FILES)
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return yaml.safe_load((REPO / request.param).read_text())


@pytest.fixture(scope="module")
def config() -> Config:
    """What ray=cluster asks for."""
    return from_dict(OmegaConf.to_container(compose_config(["ray=cluster"]), resolve=True))


def test_is_valid(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(copy.deepcopy(cluster)))


def test_an_unknown_field_is_found(cluster: dict[str, Any]) -> None:
    cluster["available_node_types"]["cpu_data"]["spot"] = True
    with pytest.raises(jsonschema.ValidationError, match="spot"):
        validate_config(prepare_config(cluster))


def test_the_head_runs_no_work_and_the_rest_scales_from_nothing(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    assert set(types) == {"head", "gpu_train", "cpu_data"}
    assert cluster["head_node_type"] == "head"
    assert types["head"]["resources"] == {"CPU": 0}
    for name in ("gpu_train", "cpu_data"):
        assert types[name]["min_workers"] == 0 < types[name]["max_workers"]
    assert types["gpu_train"]["resources"]["GPU"] == 1
    assert "GPU" not in types["cpu_data"]["resources"]
    assert cluster["max_workers"] >= sum(types[name]["max_workers"] for name in ("gpu_train", "cpu_data"))


def test_only_data_nodes_may_be_taken_away(cluster: dict[str, Any]) -> None:
    def is_spot(node: dict[str, Any]) -> bool:
        text = str(node["node_config"]).lower()
        return "spot" in text or "preemptible" in text

    assert [name for name, node in cluster["available_node_types"].items() if is_spot(node)] == ["cpu_data"]


def test_every_label_that_the_stream_selects_is_that_of_data_nodes(
    cluster: dict[str, Any], config: Config
) -> None:
    labels = {name: node["labels"] for name, node in cluster["available_node_types"].items()}
    assert labels["cpu_data"] == {"pool": "data"}
    assert all(labels[name] != labels["cpu_data"] for name in ("head", "gpu_train"))
    assert config.ray.decode_labels.items() <= labels["cpu_data"].items()


def test_what_ray_cluster_asks_for_fits(cluster: dict[str, Any], config: Config) -> None:
    """Workers on the nodes with GPUs, decoding on those that carry the labels, or on any."""
    types, settings = cluster["available_node_types"], config.ray
    train, data = types["gpu_train"], types["cpu_data"]
    assert settings.max_workers <= train["max_workers"] * train["resources"]["GPU"]
    assert settings.cpus_per_worker <= train["resources"]["CPU"]
    assert settings.decode_actors + 1 <= data["max_workers"] * data["resources"]["CPU"]


def test_every_machine_asks_for_the_token(cluster: dict[str, Any]) -> None:
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert "RAY_AUTH_MODE=token" in cluster[commands][-1]
    assert cluster["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"


def test_the_dashboard_is_the_heads_alone_and_a_stopped_job_may_save(cluster: dict[str, Any]) -> None:
    start = cluster["head_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in start
    assert "RAY_JOB_STOP_WAIT_TIME_S=120" in start


def test_the_head_gets_what_its_autoscaler_needs(cluster: dict[str, Any]) -> None:
    """Without it no machine is ever started, and only the autoscaler's log says so."""
    package = {"aws": "boto3==", "gcp": "google-api-python-client=="}[cluster["provider"]["type"]]
    assert any(package in command for command in cluster["head_setup_commands"])


def test_the_head_is_told_where_its_autoscaler_reads(cluster: dict[str, Any]) -> None:
    """`ray up` puts the configuration there."""
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in cluster["head_start_ray_commands"][-1]
    told = f"--env {CONFIG_VARIABLE}=/home/ray/ray_bootstrap_config.yaml"
    assert any(option.startswith(told) for option in cluster["docker"]["head_run_options"])
