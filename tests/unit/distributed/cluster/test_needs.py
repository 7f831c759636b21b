from __future__ import annotations

from typing import Any

import pytest

from sam2vt.config import Config, RayConfig
from sam2vt.distributed.cluster.capacity import Autoscaler, Capacity, Node, NodeType, concurrent_trials


def fits(capacity: Capacity, **settings: Any) -> int:
    return concurrent_trials(Config(ray=RayConfig(**settings)), capacity)


def nodes(*resources: dict[str, float], labels: dict[str, str] | None = None) -> list[Node]:
    return [Node(each, labels or {}) for each in resources]


@pytest.mark.parametrize(
    ("cpus", "workers", "expected"),
    [(6, 1, 2), (5, 1, 1), (9, 1, 3), (8, 2, 2), (3, 1, 1), (1, 2, 1)],  # workers + decoder + what feeds it
)
def test_cpus_are_counted_with_those_that_decode(cpus: int, workers: int, expected: int) -> None:
    assert fits(Capacity(nodes({"CPU": cpus})), num_workers=workers) == expected


def test_gpus_bound_the_trials_fractions_too() -> None:
    two = Capacity(nodes({"CPU": 64, "GPU": 2}))
    assert fits(two, num_workers=1, use_gpu=True) == 2
    assert fits(two, num_workers=1, use_gpu=True, worker_resources={"GPU": 0.25}) == 8
    assert fits(two, num_workers={"min": 2, "max": 8}, use_gpu=True) == 1


def test_a_worker_lies_on_one_node() -> None:
    small = Capacity(nodes({"CPU": 4}, {"CPU": 4}, {"CPU": 4}))
    assert fits(small, num_workers=1, cpus_per_worker=3) == 2  # 3 places, but CPUs for decoding as well
    assert fits(small, num_workers=3, cpus_per_worker=3) == 1


def test_decoders_bound_the_trials_where_only_some_nodes_decode() -> None:
    capacity = Capacity([*nodes({"CPU": 100}), *nodes({"CPU": 4}, labels={"pool": "data"})])
    assert fits(capacity, num_workers=1, decode_labels={"pool": "data"}) == 2


def test_what_an_autoscaler_may_add_counts() -> None:
    kind = NodeType("train", {"CPU": 8.0}, {}, 4)
    capacity = Capacity(nodes({"CPU": 0}), Autoscaler([kind], 4))
    assert fits(capacity, num_workers=2) == 8
