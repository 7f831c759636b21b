"""A cluster of several nodes on this machine, whose nodes come and go."""

from __future__ import annotations

import threading
import time
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from tests.fault.trace import wait_until

TRAINER = "trainer"  # the resource of a node on which a worker may train
DATA = {"pool": "data"}  # the label of a node that may decode

# What makes a run on such a cluster use it so.
OVERRIDES = (
    "ray.num_workers={min: 1, max: 2}",
    f"ray.worker_resources={{{TRAINER}: 1}}",
    "ray.decode_labels={pool: data}",
    "ray.resize_check_seconds=3",
    "ray.local_cpus=null",
    "ray.max_failures=2",
)


class Nodes:
    """A head that runs nothing, nodes that train and nodes that decode."""

    def __init__(self) -> None:
        # A node that is gone is noticed within seconds.
        noticing = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000}
        noticing["health_check_failure_threshold"] = 4
        self.cluster = Cluster()
        self.head = self._add(num_cpus=0, _system_config=noticing)
        self.by_kind: dict[str, list[Any]] = {"train": [], "data": []}

    def ensure(self, *, train: int, data: int) -> None:
        """At least so many of each, and all of them up."""
        while len(self.by_kind["data"]) < data:
            self.by_kind["data"].append(self._add(num_cpus=2, labels=DATA))
        while len(self.by_kind["train"]) < train:
            self.add_trainer()
        if ray.is_initialized():
            ids = {node.node_id for nodes in self.by_kind.values() for node in nodes}
            wait_until(lambda: ids <= alive(), 60, "the nodes to be up")

    def add_trainer(self) -> None:
        self.by_kind["train"].append(self._add(num_cpus=1, resources={TRAINER: 1}))

    def remove(self, node_id: str) -> None:
        """End a node's processes at once, as a machine that is switched off."""
        for nodes in self.by_kind.values():
            for node in [each for each in nodes if each.node_id == node_id]:
                nodes.remove(node)
                self.cluster.remove_node(node, allow_graceful=False)

    def drain(self, node_id: str, seconds: float) -> None:
        """Announce that a node will be taken away, as a cloud does of a spot machine."""
        client = ray._raylet.GcsClient(address=self.cluster.address)
        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        deadline = int((time.time() + seconds) * 1000)
        accepted, message = client.drain_node(node_id, reason, "taken away", deadline)
        assert accepted, message

    def end(self) -> None:
        ray.shutdown()
        self.cluster.shutdown()

    def _add(self, **arguments: Any) -> Any:
        arguments = {"object_store_memory": 100 << 20, **arguments}
        # A node started beside the test cannot handle signals; `end` ends it.
        self.cluster._shutdown_at_exit = threading.current_thread() is threading.main_thread()
        return self.cluster.add_node(include_dashboard=False, **arguments)


def alive() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
