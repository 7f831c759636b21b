"""Check that every node of the cluster writes to the folder that the driver sees."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sam2vt.core.storage.folder import Folder
from sam2vt.distributed.cluster.storage import RunStorage

_AT_ONCE = 32  # nodes
_SEEN_WITHIN_SECONDS = 5.0  # a network filesystem may show a new file late

Write = Callable[[str, str], None]  # (folder, name of the file to write there)


class _Asked(NamedTuple):
    node: str  # its address
    marker: str
    answer: ray.ObjectRef


def write_marker(root: str, name: str) -> None:
    """Write a small file into the folder `root`; runs on the node that is asked."""
    Folder(root).write(name, b"sam2vt")


def find_unshared(storage: RunStorage, timeout: float = 60.0, write: Write = write_marker) -> list[str]:
    """Return the faults of nodes that do not share the folder: each writes a small file, looked for here.

    The driver's own node is not asked. At most `_AT_ONCE` nodes write at a time, each within
    `timeout` seconds.
    """
    own = ray.get_runtime_context().get_node_id()
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != own]
    faults = []
    for start in range(0, len(others), _AT_ONCE):
        faults += _ask(storage, others[start : start + _AT_ONCE], timeout, write)
    return faults


def _ask(storage: RunStorage, nodes: Sequence[Any], timeout: float, write: Write) -> list[str]:
    asked = [_start(storage, node, write) for node in nodes]
    answered, _ = ray.wait([a.answer for a in asked], num_returns=len(asked), timeout=timeout)
    faults = []
    for item in asked:
        if item.answer not in answered:
            ray.cancel(item.answer, force=True)
            faults.append(f"storage: node {item.node} did not write to {storage.root} in {timeout:g} s")
        elif text := _fault(item, storage):
            faults.append(text)
    return faults


def _start(storage: RunStorage, node: Any, write: Write) -> _Asked:
    marker = f".shared_{uuid4().hex}"
    # Without CPUs and without a second try: nodes may be full, and the answer is wanted once.
    here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    task: Any = ray.remote(num_cpus=0, max_retries=0)(write)
    answer = task.options(scheduling_strategy=here).remote(storage.root, marker)
    return _Asked(node["NodeManagerAddress"], marker, answer)


def _fault(asked: _Asked, storage: RunStorage) -> str | None:
    try:
        ray.get(asked.answer)
    except Exception as error:
        reason = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
        return (
            f"storage: node {asked.node} cannot write to {storage.root} ({reason}); ray.storage_path must be "
            "a folder that every node reaches, or an address such as s3://bucket/folder with credentials on "
            "every node"
        )
    if _seen_and_removed(storage.folder(), asked.marker):
        return None
    return (
        f"storage: what node {asked.node} writes to {storage.root} does not appear here, the folder is not "
        "shared; set ray.storage_path to a folder that every node reaches, or to an address such as "
        "s3://bucket/folder"
    )


def _seen_and_removed(folder: Folder, marker: str) -> bool:
    end = time.monotonic() + _SEEN_WITHIN_SECONDS
    while not folder.has(marker):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    folder.delete(marker)
    return True
