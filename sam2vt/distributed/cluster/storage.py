"""Find the places of a run's files, local or at an address of pyarrow.fs; check that nodes share them."""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sam2vt.config import Config
from sam2vt.core.storage.folder import Folder
from sam2vt.errors import ConfigError

RAY_FOLDER = "ray"  # holds what Ray Train keeps of each attempt at the run
_AT_ONCE = 32  # nodes that are asked at a time
_SEEN_WITHIN_SECONDS = 5.0  # a network filesystem may show a new file late
_WANTED = "a folder that every node reaches, or an address such as s3://bucket/folder and credentials for it"


@dataclass(frozen=True)
class RunStorage:
    """The places of all files of a run; `run_storage` derives them once from the configuration."""

    root: str  # the run folder: a local path or a URI
    save_dir: str | None = None  # of the checkpoints, where the configuration keeps them elsewhere

    @property
    def is_remote(self) -> bool:
        """Return whether the run folder is a URI."""
        return "://" in self.root

    @property
    def checkpoints(self) -> str:
        """Folder of the checkpoints that the run resumes from; every machine reaches it."""
        return self.save_dir or self.join("checkpoints")

    def join(self, *parts: str) -> str:
        """Return the path or URI of something in the run folder."""
        return posixpath.join(self.root, *parts)

    def folder(self, *parts: str) -> Folder:
        """Open a folder in the run folder, or the run folder itself. Raises OSError."""
        return Folder(self.join(*parts))

    def next_attempt(self) -> str:
        """Return the first unused name of an attempt: Ray Train would resume a used one unasked."""
        used = self.folder(RAY_FOLDER).sizes()
        return next(name for number in range(1, len(used) + 2) if (name := f"attempt_{number}") not in used)


def run_storage(config: Config) -> RunStorage:
    """Return `ray.storage_path`/`ray.name`, which default to the parent and the name of `output_dir`."""
    output_dir = Path(config.output_dir).absolute()
    parent = config.ray.storage_path or str(output_dir.parent)
    if "://" not in parent:
        parent = str(Path(parent).expanduser().absolute())
    storage = RunStorage(posixpath.join(parent, config.ray.name or output_dir.name))
    if storage.is_remote or has_default_save_dir(config):
        return storage
    return replace(storage, save_dir=str(Path(config.save_dir).expanduser().absolute()))


def has_default_save_dir(config: Config) -> bool:
    """Return whether checkpoints are kept in the run folder."""
    return config.save_dir in ("", os.path.join(config.output_dir, "checkpoints"))


def check_writable(storage: RunStorage) -> None:
    """Write and remove a small file; raises ConfigError naming `ray.storage_path` if that fails."""
    marker = f".writable_{uuid4().hex}"
    try:
        folder = storage.folder()
        folder.write(marker, b"sam2vt")
        folder.delete(marker)
    except OSError as error:
        raise ConfigError(
            f"ray.storage_path: cannot write to {storage.root} ({error}); it must be {_WANTED}"
        ) from error


def write_marker(root: str, name: str) -> None:
    """Write a small file into the folder `root`; runs on the node that is asked."""
    Folder(root).write(name, b"sam2vt")


def find_unshared(
    storage: RunStorage, timeout: float = 60.0, write: Callable[[str, str], None] = write_marker
) -> list[str]:
    """Return the faults of nodes that do not share the folder: each writes a small file, looked for here.

    The driver's own node is not asked. At most `_AT_ONCE` nodes write at a time, each within
    `timeout` seconds.
    """
    own, check = ray.get_runtime_context().get_node_id(), uuid4().hex
    others = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    others.pop(own)
    # Without CPUs and without a second try: nodes may be full, and the answer is wanted once.
    task: Any = ray.remote(num_cpus=0, max_retries=0)(write)
    faults, asked = [], list(others)
    for some in (asked[start : start + _AT_ONCE] for start in range(0, len(asked), _AT_ONCE)):
        answers = {}
        for node in some:
            here = NodeAffinitySchedulingStrategy(node, soft=False)
            marker = f".shared_{check}_{node}"
            answers[node] = task.options(scheduling_strategy=here).remote(storage.root, marker)
        _, late = ray.wait([*answers.values()], num_returns=len(answers), timeout=timeout)
        for node, answer in answers.items():
            where = f"storage: node {others[node]}"
            if answer in late:
                ray.cancel(answer, force=True)
                faults.append(f"{where} did not write to {storage.root} in {timeout:g} s")
            else:
                faults += _faults(where, answer, storage, f".shared_{check}_{node}")
    return faults


def _faults(where: str, answer: ray.ObjectRef, storage: RunStorage, marker: str) -> Iterator[str]:
    try:
        ray.get(answer)
    except Exception as error:
        reason = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
        yield f"{where} cannot write to {storage.root} ({reason}); ray.storage_path must be {_WANTED}"
        return
    folder, end = storage.folder(), time.monotonic() + _SEEN_WITHIN_SECONDS
    while not folder.has(marker):
        if time.monotonic() > end:
            yield (
                f"{where}: a file that it writes to {storage.root} does not appear here, the folder is not "
                f"shared; set ray.storage_path to {_WANTED}"
            )
            return
        time.sleep(0.2)
    folder.delete(marker)
