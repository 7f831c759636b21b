"""How far a cluster may grow, read from the configuration of its autoscaler."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sam2vt.distributed.cluster.capacity import CONFIG_VARIABLE, Autoscaler, NodeType, known_autoscaler
from sam2vt.errors import ConfigError

REPO = Path(__file__).resolve().parents[4]
GPU = NodeType("gpu", {"CPU": 8, "GPU": 1}, {"pool": "train"}, 4)
CPU = NodeType("cpu", {"CPU": 16}, {"pool": "data"}, 3)


def test_the_limit_on_all_nodes_holds_too() -> None:
    all_of, four = Autoscaler([GPU, CPU], 7), Autoscaler([GPU, CPU], 4)
    assert (all_of.most("CPU"), all_of.most("GPU")) == (4 * 8 + 3 * 16, 4)
    assert (four.most("CPU"), four.most("GPU")) == (3 * 16 + 8, 4)


def test_labels_leave_only_the_nodes_that_carry_them() -> None:
    autoscaler = Autoscaler([GPU, CPU], 7)
    assert autoscaler.most("CPU", {"pool": "data"}) == 48
    assert autoscaler.most("GPU", {"pool": "data"}) == 0
    assert autoscaler.most("CPU", {"pool": "other"}) == 0


@pytest.mark.parametrize("name", ["cluster.yaml", "deploy/gcp.yaml"])
def test_reads_the_clusters_of_this_repository(name: str) -> None:
    autoscaler = known_autoscaler({CONFIG_VARIABLE: str(REPO / name)})
    assert autoscaler is not None
    assert (autoscaler.most("CPU"), autoscaler.most("GPU")) == (8 * 8 + 8 * 16, 8)
    assert autoscaler.most("CPU", {"pool": "data"}) == 8 * 16


def test_reads_a_text_in_place_of_a_file() -> None:
    config = {"available_node_types": {"a": {"resources": {"CPU": 2}, "max_workers": 3}}, "max_workers": 2}
    autoscaler = known_autoscaler({CONFIG_VARIABLE: json.dumps(config)})
    assert autoscaler is not None
    assert autoscaler.most("CPU") == 4


def test_none_is_known_without_the_variable() -> None:
    assert known_autoscaler({}) is None


@pytest.mark.parametrize("source", ["/nowhere/cluster.yaml", "{", "{}", '{"available_node_types": {"a": 1}}'])
def test_says_what_cannot_be_read(source: str) -> None:
    with pytest.raises(ConfigError, match="SAM2VT_CLUSTER_CONFIG"):
        known_autoscaler({CONFIG_VARIABLE: source})
