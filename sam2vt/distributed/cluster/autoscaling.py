"""What an autoscaler may add to the cluster, by the configuration that it works from.

Ray's autoscaler tells nobody how far it may go, so the head's environment does: SAM2VT_CLUSTER_CONFIG
holds the configuration or names its file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from sam2vt.errors import ConfigError

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
