"""Refuses, with the arithmetic, what would hang or starve on the cluster.

Ray Train takes its share first. What is left may be too little for Ray Data, which then waits without
an error while the workers wait for it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from sam2vt.config import Config, RayConfig
from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.distributed.cluster.capacity import Capacity, cluster_capacity
from sam2vt.distributed.cluster.needs import _BATCHES_AN_ACTOR, INDEX_CPUS, _started, clip_bytes, worker_needs
from sam2vt.distributed.cluster.shared_folder import find_unreached
from sam2vt.distributed.cluster.storage import RunStorage, check_writable, run_storage
from sam2vt.errors import ConfigError

log = logging.getLogger(__name__)


def check_config(config: Config) -> None:
    """Raises ConfigError for settings that Ray's own replace, and for a folder that holds another run.

    Needs no Ray.
    """
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
    if _limits_validation(config) and config.ray.min_workers != config.ray.max_workers:
        faults.append(
            f"trainer.limit_val_batches={trainer.limit_val_batches} and ray.num_workers="
            f"{config.ray.num_workers}: the limit holds for each worker, so that scores would be of other "
            "videos as their number changes; leave it at 1.0, or 0 for none, and give fewer videos "
            "(valdataset.data_path)"
        )
    if run_storage(config).is_remote and not _has_default_save_dir(config):
        faults.append(
            f"save_dir={config.save_dir} and ray.storage_path={config.ray.storage_path}: checkpoints lie in "
            "the run's storage; leave save_dir at its default"
        )
    faults += find_earlier_run(config)
    if faults:
        raise ConfigError("\n".join(["the configuration does not suit Ray:", *(f"  - {f}" for f in faults)]))


def find_earlier_run(config: Config) -> list[str]:
    """The run's storage holds checkpoints already, and nobody said that this run goes on from them."""
    storage = run_storage(config)
    root = _checkpoint_root(config, storage)
    if config.resume == "auto" or _lies_in(config.resume, (storage.root, root)):
        return []
    try:
        if not CheckpointStore(root, pauses=()).holds_any():
            return []
    except (OSError, ValueError, NotImplementedError):
        return []  # `check_writable` says what is wrong with it
    return [
        f"{root} holds the checkpoints of an earlier run, which this one would replace; go on from them with "
        "resume=auto, or give this run another output_dir or ray.name"
    ]


def check_cluster(config: Config, storage: RunStorage) -> None:
    """Raises one ConfigError with every reason why the run could not go on. Ray must be initialised."""
    capacity = cluster_capacity()
    faults = find_faults(config, capacity)
    faults += find_storage_faults(config, storage, capacity)
    try:
        check_writable(storage)
        faults += find_unreached(storage)
        if (root := _checkpoint_root(config, storage)) != storage.join("checkpoints"):
            faults += find_unreached(RunStorage(root))
        if (features := config.dataset.feature_cache) and "://" not in features:
            faults += find_unreached(RunStorage(features))
    except ConfigError as error:
        faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(["the cluster cannot run this:", *(f"  - {fault}" for fault in faults)]))
    _say_how_many_fit(config.ray, capacity)


def find_faults(config: Config, capacity: Capacity) -> list[str]:
    """What the configuration asks for beyond what the cluster has or may have."""
    checks: tuple[Callable[[Config, Capacity], list[str]], ...] = (_cpus, _decoders, _others, _places, _store)
    return [fault for check in checks for fault in check(config, capacity)]


def find_storage_faults(config: Config, storage: RunStorage, capacity: Capacity) -> list[str]:
    """A folder nobody said is shared, on a cluster to which nodes may come that cannot be asked yet."""
    if not capacity.may_grow or storage.is_remote or config.ray.storage_path:
        return []
    return [
        f"storage: output_dir={config.output_dir} is a folder of this machine, but the cluster may grow by "
        "nodes that do not have it; set ray.storage_path to a folder that every node reaches (this one too, "
        "if it is), or to an address such as s3://bucket/folder"
    ]


def _cpus(config: Config, capacity: Capacity) -> list[str]:
    settings, most = config.ray, capacity.most("CPU")
    for workers in (settings.min_workers, _started(settings, capacity)):
        cpus = workers * settings.cpus_per_worker + settings.decode_actors + INDEX_CPUS
        if cpus > most:
            break
    else:
        return []
    return [
        f"CPUs: {_workers(settings, workers)} x ray.cpus_per_worker={settings.cpus_per_worker} + "
        f"ray.decode_actors={settings.decode_actors} + {INDEX_CPUS} to feed them = {cpus}, but the cluster "
        f"{_has(capacity)} "
        f"{most:g}; the workers would take theirs and wait for data for ever. Lower one of them, add nodes, "
        f"or for Ray on this machine set ray.local_cpus={cpus}"
    ]


def _decoders(config: Config, capacity: Capacity) -> list[str]:
    settings, labels = config.ray, config.ray.decode_labels
    if not labels:
        return []
    cpus, most = settings.decode_actors + INDEX_CPUS, capacity.most("CPU", labels)
    beside = min(_started(settings, capacity), capacity.most_places(worker_needs(settings), labels))
    if cpus <= most < cpus + beside * settings.cpus_per_worker:
        return [
            f"decoding: {beside} workers x ray.cpus_per_worker={settings.cpus_per_worker} find a place on "
            f"nodes with ray.decode_labels={labels}, which {_have(capacity)} {most:g} CPUs; {cpus} must stay "
            "for decoding. Keep workers away by a resource that only other nodes have (ray.worker_resources)"
        ]
    if cpus <= most:
        return []
    known = sorted(
        {f"{k}={v}" for node in capacity.nodes for k, v in node.labels.items() if "ray.io" not in k}
    )
    return [
        f"decoding: ray.decode_actors={settings.decode_actors} + {INDEX_CPUS} to feed them = {cpus} CPUs on "
        f"nodes with ray.decode_labels={labels}, but those {_have(capacity)} {most:g}; the labels of the "
        f"nodes there are: {', '.join(known) or 'none'}. Start Ray on the nodes that shall decode with "
        "`--labels`, lower ray.decode_actors, or leave ray.decode_labels empty"
    ]


def _others(config: Config, capacity: Capacity) -> list[str]:
    faults = []
    for name, amount in worker_needs(config.ray).items():
        needed, most = config.ray.min_workers * amount, capacity.most(name)
        if name != "CPU" and needed > most:
            what, remedy = (
                ("GPUs", "set ray.use_gpu=false") if name == "GPU" else (name, "change ray.worker_resources")
            )
            faults.append(
                f"{what}: {_workers(config.ray)} x {amount:g} = {needed:g}, but the cluster {_has(capacity)} "
                f"{most:g}; lower ray.num_workers, add nodes, or {remedy}"
            )
    return faults


def _places(config: Config, capacity: Capacity) -> list[str]:
    """The sums suffice, but a worker lies on a single node."""
    needs, settings = worker_needs(config.ray), config.ray
    places = capacity.most_places(needs)
    short = any(settings.min_workers * amount > capacity.most(name) for name, amount in needs.items())
    if short or capacity.limits or places >= settings.min_workers:
        return []
    wanted = _list(needs)
    kinds = [node.resources for node in capacity.nodes]
    kinds += [kind.resources for kind in (capacity.autoscaler.node_types if capacity.autoscaler else [])]
    shapes = sorted({_list({name: kind.get(name, 0) for name in needs}) for kind in kinds})
    return [
        f"nodes: a worker takes {wanted} of a single node, so that {places} of {_workers(settings)} find a "
        f"place; the nodes have {'; '.join(shapes)}. Lower ray.cpus_per_worker or ray.num_workers, or add "
        "larger nodes"
    ]


def _store(config: Config, capacity: Capacity) -> list[str]:
    """With a feature cache the size of a clip is known only once the model is."""
    return [] if config.dataset.feature_cache else find_clip_faults(config, capacity)


def find_clip_faults(config: Config, capacity: Capacity, frame_bytes: int | None = None) -> list[str]:
    """Clips in flight for which the object store has no room; `frame_bytes` as for `clip_bytes`."""
    bytes_a_clip = clip_bytes(config, frame_bytes)
    settings, batch = config.ray, config.dataset.batch_size
    store = capacity.now("object_store_memory")
    batches = settings.min_workers * settings.prefetch_batches + settings.decode_actors * _BATCHES_AN_ACTOR
    needed = bytes_a_clip * batch * batches
    if capacity.may_grow or needed <= store:
        return []
    mib = 2**20
    return [
        f"object store: ({_workers(settings)} x ray.prefetch_batches={settings.prefetch_batches} + "
        f"ray.decode_actors={settings.decode_actors} x {_BATCHES_AN_ACTOR} in flight) x dataset.batch_size="
        f"{batch} x {bytes_a_clip / mib:.1f} MiB a clip = {needed / mib:.0f} MiB, but the cluster has "
        f"{store / mib:.0f} MiB; lower one of them, or start Ray with a larger --object-store-memory"
    ]


def _say_how_many_fit(settings: RayConfig, capacity: Capacity) -> None:
    fit = capacity.places_now(worker_needs(settings))
    free = capacity.now("CPU") - settings.decode_actors - INDEX_CPUS
    fit = max(0, min(fit, int(free // settings.cpus_per_worker)))
    if fit < settings.max_workers:
        log.warning(
            "of up to %d workers (ray.num_workers) %d fit on the nodes there are; %s",
            settings.max_workers,
            fit,
            f"the run begins with at least {settings.min_workers} and grows as nodes come"
            if settings.min_workers < settings.max_workers
            else "it begins when the others' nodes have come",
        )


def _checkpoint_root(config: Config, storage: RunStorage) -> str:
    if storage.is_remote or _has_default_save_dir(config):
        return storage.join("checkpoints")
    return str(config.checkpoint_dir.absolute())


def _limits_validation(config: Config) -> bool:
    limit = config.trainer.limit_val_batches
    return limit != 0 and (isinstance(limit, int) or limit < 1.0)


def _has_default_save_dir(config: Config) -> bool:
    return config.save_dir in ("", os.path.join(config.output_dir, "checkpoints"))


def _lies_in(path: str | None, folders: tuple[str, ...]) -> bool:
    if not path:
        return False
    full = path if "://" in path else str(Path(path).expanduser().absolute())
    return any(full == folder or full.startswith(f"{folder}/") for folder in folders)


def _workers(settings: RayConfig, started: int | None = None) -> str:
    if settings.min_workers == settings.max_workers:
        return f"ray.num_workers={settings.max_workers}"
    if started is not None and started > settings.min_workers:
        return f"{started} workers, as many of ray.num_workers={settings.num_workers} as find a place,"
    return f"ray.num_workers.min={settings.min_workers}"


def _has(capacity: Capacity) -> str:
    return "may grow to" if capacity.may_grow else "has"


def _have(capacity: Capacity) -> str:
    return "may grow to" if capacity.may_grow else "have"


def _list(resources: dict[str, float]) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in resources.items())
