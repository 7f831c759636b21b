"""Refuses, with the arithmetic, what would hang or starve on the cluster.

Ray Train takes its share first. What is left may be too little for Ray Data, which then waits without
an error while the workers wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping

import ray

from sam2vt.config import Config
from sam2vt.distributed.autoscaling import known_autoscaler
from sam2vt.distributed.storage import RunStorage, check_writable
from sam2vt.errors import ConfigError

_INDEX_CPUS = 1  # one task at a time reads and cuts the row numbers


def check_config(config: Config) -> None:
    """Raises ConfigError for settings of a single machine that Ray's own replace."""
    faults, trainer = [], config.trainer
    if trainer.devices not in ("auto", 1):
        faults.append(
            f"trainer.devices={trainer.devices} and ray.num_workers={config.ray.num_workers}: under Ray "
            "the second says how many processes train; leave the first at auto"
        )
    if trainer.accelerator not in ("auto", "gpu" if config.ray.use_gpu else "cpu"):
        faults.append(
            f"trainer.accelerator={trainer.accelerator} and ray.use_gpu={config.ray.use_gpu}: must "
            "agree; leave the first at auto"
        )
    if not trainer.enable_checkpointing:
        faults.append(
            "trainer.enable_checkpointing=false: under Ray a run must keep checkpoints, from which it goes "
            "on after a failure and which its export is made of; leave it at true"
        )
    if faults:
        raise ConfigError("\n".join(["the configuration does not suit Ray:", *(f"  - {f}" for f in faults)]))


def check_cluster(config: Config, storage: RunStorage) -> None:
    """Raises one ConfigError with every reason why the run could not go on. Ray must be initialised."""
    faults = find_faults(config, cluster_capacity())
    faults += find_storage_faults(config, storage, sum(node["Alive"] for node in ray.nodes()))
    try:
        check_writable(storage)
    except ConfigError as error:
        faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(["the cluster cannot run this:", *(f"  - {fault}" for fault in faults)]))


def find_faults(config: Config, capacity: Mapping[str, float]) -> list[str]:
    """What the configuration asks for beyond `capacity`, which maps CPU and GPU to their numbers."""
    settings = config.ray
    worker_cpus = settings.num_workers * settings.cpus_per_worker
    cpus = worker_cpus + settings.decode_actors + _INDEX_CPUS
    faults = []
    if cpus > capacity.get("CPU", 0):
        faults.append(
            f"CPUs: ray.num_workers={settings.num_workers} x ray.cpus_per_worker="
            f"{settings.cpus_per_worker} + ray.decode_actors={settings.decode_actors} + {_INDEX_CPUS} to "
            f"feed them = {cpus}, but the cluster has {capacity.get('CPU', 0):g}; the workers would take "
            "theirs and wait for data for ever. Lower one of them, add nodes, or for Ray on this machine "
            f"set ray.local_cpus={cpus}"
        )
    gpus = settings.num_workers if settings.use_gpu else 0
    if gpus > capacity.get("GPU", 0):
        faults.append(
            f"GPUs: ray.num_workers={settings.num_workers} x 1 = {gpus}, but the cluster has "
            f"{capacity.get('GPU', 0):g}; lower ray.num_workers, add nodes, or set ray.use_gpu=false"
        )
    return faults


def find_storage_faults(config: Config, storage: RunStorage, num_nodes: int) -> list[str]:
    """A folder nobody said is shared, on a cluster of several machines."""
    if num_nodes < 2 or storage.is_remote or config.ray.storage_path:
        return []
    return [
        f"storage: output_dir={config.output_dir} is a folder of this machine, but the cluster has "
        f"{num_nodes} nodes; set ray.storage_path to a folder that every node reaches (this one too, if it "
        "is), or to an address such as s3://bucket/folder"
    ]


def cluster_capacity() -> dict[str, float]:
    """Resources of the cluster: what is there, or where it scales by itself, what may come."""
    capacity = dict(ray.cluster_resources())
    for name, most in (_autoscaling_limits() or {}).items():
        capacity[name] = max(capacity.get(name, 0), most)
    return capacity


def _autoscaling_limits() -> Mapping[str, float] | None:
    autoscaler = known_autoscaler()
    if autoscaler is not None:
        return autoscaler.resources()
    # Ray has no public call for what its autoscaler may add; Ray Train asks the same one.
    from ray._private.state import state

    limits = getattr(state, "get_max_resources_from_cluster_config", None)
    return limits() if limits else None
