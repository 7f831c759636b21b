"""What the nodes of a cluster can hold, those that an autoscaler may start included."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import ray
import yaml

from sam2vt.errors import ConfigError


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


CONFIG_VARIABLE = "SAM2VT_CLUSTER_CONFIG"


class NodeType(NamedTuple):
    """Nodes that may be started."""

    name: str
    resources: dict[str, float]  # of one node
    labels: dict[str, str]
    max_nodes: int


class Autoscaler(NamedTuple):
    """What it may start: so many of each type, and so many in all."""

    node_types: list[NodeType]
    max_nodes: int

    def most(self, resource: str, labels: Mapping[str, str] | None = None) -> float:
        """The most there can ever be of a resource, on nodes that carry the labels, if any are given."""
        wanted = (labels or {}).items()
        types = [kind for kind in self.node_types if wanted <= kind.labels.items()]
        left, total = self.max_nodes, 0.0
        for kind in sorted(types, key=lambda kind: -kind.resources.get(resource, 0)):
            nodes = min(kind.max_nodes, left)
            total, left = total + nodes * kind.resources.get(resource, 0), left - nodes
        return total

    def resources(self, labels: Mapping[str, str] | None = None) -> dict[str, float]:
        """`most` of every resource that some node type has."""
        names = {name for kind in self.node_types for name in kind.resources}
        return {name: self.most(name, labels) for name in sorted(names)}


def known_autoscaler(environment: Mapping[str, str] = os.environ) -> Autoscaler | None:
    """The autoscaler of the head that this driver runs on; None where nothing tells of one.

    Raises ConfigError where the variable is set and cannot be read.
    """
    source = environment.get(CONFIG_VARIABLE)
    if not source:
        return None
    try:
        config = _read(source)
        head = config.get("head_node_type")
        types = [_node_type(*item) for item in config["available_node_types"].items() if item[0] != head]
        at_most = int(config.get("max_workers", sum(kind.max_nodes for kind in types)))
        return Autoscaler(types, at_most)
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{CONFIG_VARIABLE}={source}: the configuration of the cluster's autoscaler cannot be read from "
            f"it ({type(error).__name__}: {error}). It must be the file that `ray start "
            "--autoscaling-config` was given, or its text with available_node_types and max_workers; unset "
            "it on a cluster that does not scale"
        ) from error


def _read(source: str) -> dict[str, Any]:
    text = source if source.lstrip().startswith("{") else Path(source).expanduser().read_text()
    return yaml.safe_load(text)


def _node_type(name: str, node: Mapping[str, Any]) -> NodeType:
    resources = {key: float(number) for key, number in node["resources"].items()}
    return NodeType(name, resources, dict(node.get("labels") or {}), int(node["max_workers"]))
