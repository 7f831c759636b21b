"""Count the resources of a cluster's nodes, of nodes that its autoscaler may add, and of a run.

Ray's autoscaler does not publish its limits, so the head's environment does: SAM2VT_CLUSTER_CONFIG contains
its configuration or names the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import ray
import yaml

from sam2vt.config import Config, RayConfig
from sam2vt.errors import ConfigError

CONFIG_VARIABLE = "SAM2VT_CLUSTER_CONFIG"
INDEX_CPUS = 1  # one task at a time reads and cuts the row numbers
BATCHES_PER_ACTOR = 2  # that Ray Data has in flight for each decode actor

Resources = Mapping[str, float]
Labels = Mapping[str, str]
_ANY: Labels = {}


class Node(NamedTuple):
    """A node of the cluster."""

    resources: Resources
    labels: Labels


class NodeType(NamedTuple):
    """A kind of node that an autoscaler may start."""

    name: str
    resources: Resources  # of one node
    labels: Labels
    max_nodes: int


class Autoscaler(NamedTuple):
    """The nodes that may be started: the number of each type, and in total."""

    node_types: Sequence[NodeType]
    max_nodes: int

    def most(self, resource: str, labels: Labels = _ANY) -> float:
        """Return the maximum amount of a resource, on nodes with the labels."""
        return self.most_of(lambda resources: resources.get(resource, 0), labels)

    def most_of(self, count: Callable[[Resources], float], labels: Labels = _ANY) -> float:
        """Return the largest sum of `count(resources of a node)`, on nodes with the labels."""
        carrying = [kind for kind in self.node_types if _carries(kind, labels)]
        left, total = self.max_nodes, 0.0
        # The limit on all nodes is spent on those with the most.
        for kind in sorted(carrying, key=lambda kind: -count(kind.resources)):
            nodes = min(kind.max_nodes, left)
            total, left = total + nodes * count(kind.resources), left - nodes
        return total


@dataclass(frozen=True)
class Capacity:
    """The nodes of a cluster, and how far it may grow."""

    nodes: Sequence[Node]
    autoscaler: Autoscaler | None = None
    limits: Resources = field(default_factory=dict)  # sums that a managed cluster may grow to

    @property
    def may_grow(self) -> bool:
        """Whether nodes may be added while a run waits or trains."""
        return self.autoscaler is not None or bool(self.limits)

    def now(self, resource: str, labels: Labels = _ANY) -> float:
        """Return the current amount of a resource, on nodes with the labels."""
        return sum(node.resources.get(resource, 0) for node in self.nodes if _carries(node, labels))

    def most(self, resource: str, labels: Labels = _ANY) -> float:
        """Return the amount of a resource after the cluster has grown."""
        later = self.autoscaler.most(resource, labels) if self.autoscaler else 0
        # A managed cluster says nothing of labels: its limit then counts for any of them.
        return max(self.now(resource, labels), later, self.limits.get(resource, 0))

    def places_now(self, need: Resources, labels: Labels = _ANY) -> int:
        """Return how many times the nodes hold `need`, each time on a single node with the labels."""
        return sum(_places(node.resources, need) for node in self.nodes if _carries(node, labels))

    def most_places(self, need: Resources, labels: Labels = _ANY) -> int:
        """Return the same for a cluster that has grown to its limit."""
        later = self.autoscaler.most_of(lambda node: _places(node, need), labels) if self.autoscaler else 0
        return max(int(later), self.places_now(need, labels))


def cluster_capacity() -> Capacity:
    """Return the capacity of the cluster that this process is connected to."""
    nodes = [Node(node["Resources"], node.get("Labels") or {}) for node in ray.nodes() if node["Alive"]]
    autoscaler = known_autoscaler()
    return Capacity(nodes, autoscaler, {} if autoscaler else _managed_limits())


def known_autoscaler(environment: Mapping[str, str] = os.environ) -> Autoscaler | None:
    """Return the autoscaler of the head that this driver runs on, None if the environment names none.

    Raises ConfigError if the variable is set and cannot be read.
    """
    source = environment.get(CONFIG_VARIABLE)
    if not source:
        return None
    try:
        text = source if source.lstrip().startswith("{") else Path(source).expanduser().read_text()
        config = yaml.safe_load(text)
        head = config.get("head_node_type")  # it is there already and never started again
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


def _node_type(name: str, node: Mapping[str, Any]) -> NodeType:
    resources = {key: float(number) for key, number in node["resources"].items()}
    return NodeType(name, resources, dict(node.get("labels") or {}), int(node["max_workers"]))


def _carries(node: Node | NodeType, labels: Labels) -> bool:
    return labels.items() <= node.labels.items()


def _places(resources: Resources, need: Resources) -> int:
    return int(min(resources.get(name, 0) // amount for name, amount in need.items() if amount > 0))


def _managed_limits() -> Resources:
    # Ray has no public call for what a managed cluster may add; Ray Train asks the same one.
    from ray._private.state import state

    limits: Any = getattr(state, "get_max_resources_from_cluster_config", None)
    return (limits() if limits else None) or {}


def worker_needs(settings: RayConfig) -> dict[str, float]:
    """Return the resources that one training worker takes of its node."""
    gpu = {"GPU": 1.0} if settings.use_gpu else {}
    return {"CPU": settings.cpus_per_worker, **gpu, **settings.worker_resources}


def decoding_cpus(settings: RayConfig) -> int:
    """Return the CPUs that a run's decode actors take, with the task that feeds them."""
    return settings.decode_actors + INDEX_CPUS


def clip_bytes(config: Config, frame_bytes: int | None = None) -> int:
    """Return the most bytes that one clip takes in the object store: frames, and masks at 1 bit per pixel.

    A frame takes `frame_bytes`, by default those of a uint8 image.
    """
    height, width = config.dataset.image_size
    pixels = config.dataset.video_clip_length * height * width
    frames = pixels * 3 if frame_bytes is None else config.dataset.video_clip_length * frame_bytes
    return frames + pixels * config.max_objects // 8


def num_started(settings: RayConfig, capacity: Capacity) -> int:
    """Return how many workers Ray Train starts: all that fit, whatever remains for decoding."""
    places = capacity.most_places(worker_needs(settings))
    return max(settings.min_workers, min(settings.max_workers, places))


def concurrent_trials(config: Config, capacity: Capacity) -> int:
    """Return how many runs of `config` fit on the cluster at its largest, at least 1.

    Each takes the resources of its minimum number of workers, and the CPUs for decoding. Preflight refuses a
    run that does not fit once.
    """
    settings = config.ray
    workers, needs, decoding = settings.min_workers, worker_needs(settings), decoding_cpus(settings)
    fits = [capacity.most("CPU") // (workers * settings.cpus_per_worker + decoding)]
    fits += [capacity.most(name) // (workers * amount) for name, amount in needs.items() if name != "CPU"]
    if settings.decode_labels:
        fits.append(capacity.most("CPU", settings.decode_labels) // decoding)
    if not capacity.limits:  # of a managed cluster only sums are known
        fits.append(capacity.most_places(needs) // workers)
    return max(1, int(min(fits)))
