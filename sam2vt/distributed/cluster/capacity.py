"""What the nodes of a cluster can hold, those that an autoscaler may start included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ray

from sam2vt.distributed.cluster.autoscaling import Autoscaler, known_autoscaler


class Node(NamedTuple):
    """A node that is there."""

    resources: Mapping[str, float]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Capacity:
    """The nodes, and how far the cluster may grow."""

    nodes: Sequence[Node]
    autoscaler: Autoscaler | None = None
    limits: Mapping[str, float] = field(default_factory=dict)  # what a managed cluster says of its growth

    @property
    def may_grow(self) -> bool:
        return self.autoscaler is not None or bool(self.limits)

    def now(self, resource: str, labels: Mapping[str, str] | None = None) -> float:
        """How much of a resource there is, on nodes that carry the labels, if any are given."""
        wanted = (labels or {}).items()
        return sum(node.resources.get(resource, 0) for node in self.nodes if wanted <= node.labels.items())

    def most(self, resource: str, labels: Mapping[str, str] | None = None) -> float:
        """How much there is or, where the cluster grows by itself, may be. Labels of `limits` are unknown."""
        later = self.autoscaler.most(resource, labels) if self.autoscaler else 0
        return max(self.now(resource, labels), later, self.limits.get(resource, 0))

    def places_now(self, need: Mapping[str, float], labels: Mapping[str, str] | None = None) -> int:
        """How many times the nodes hold `need`, each time on a single node that carries the labels."""
        wanted = (labels or {}).items()
        return sum(_places(node.resources, need) for node in self.nodes if wanted <= node.labels.items())

    def most_places(self, need: Mapping[str, float], labels: Mapping[str, str] | None = None) -> int:
        """The same once the cluster has grown as far as it may."""
        if self.autoscaler is None:
            return self.places_now(need, labels)
        wanted = (labels or {}).items()
        kinds = [kind for kind in self.autoscaler.node_types if wanted <= kind.labels.items()]
        left, places = self.autoscaler.max_nodes, 0
        for kind in sorted(kinds, key=lambda kind: -_places(kind.resources, need)):
            nodes = min(kind.max_nodes, left)
            places, left = places + nodes * _places(kind.resources, need), left - nodes
        return max(places, self.places_now(need, labels))


def cluster_capacity() -> Capacity:
    """Of the cluster that this process is connected to."""
    nodes = [Node(node["Resources"], node.get("Labels") or {}) for node in ray.nodes() if node["Alive"]]
    autoscaler = known_autoscaler()
    return Capacity(nodes, autoscaler, {} if autoscaler else _managed_limits())


def _places(resources: Mapping[str, float], need: Mapping[str, float]) -> int:
    return int(min(resources.get(name, 0) // amount for name, amount in need.items() if amount > 0))


def _managed_limits() -> Mapping[str, float]:
    # Ray has no public call for what a managed cluster may add; Ray Train asks the same one.
    from ray._private.state import state

    limits: Any = getattr(state, "get_max_resources_from_cluster_config", None)
    return (limits() if limits else None) or {}
