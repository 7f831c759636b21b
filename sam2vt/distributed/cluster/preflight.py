"""Refuse a run that would hang or starve on the cluster, and show the arithmetic.

Ray Train reserves its share first. If too little is left, Ray Data waits without an error while the workers
wait for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

from sam2vt.config import Config, RayConfig
from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.core.training.loggers import check_store, sqlite_file, store_of
from sam2vt.distributed.cluster.capacity import (
    BATCHES_PER_ACTOR,
    INDEX_CPUS,
    Capacity,
    clip_bytes,
    cluster_capacity,
    decoding_cpus,
    num_started,
    worker_needs,
)
from sam2vt.distributed.cluster.storage import RunStorage, check_writable, find_unshared, has_default_save_dir
from sam2vt.errors import ConfigError
from sam2vt.settings import without_passwords

log = logging.getLogger(__name__)

_MIB = 2**20
CLUSTER = "the cluster cannot run this:"


# Of the configuration alone


def check_config(config: Config, storage: RunStorage) -> None:
    """Check the settings that Ray's own replace, and that the folder holds no other run; needs no Ray.

    Raises one ConfigError with all faults.
    """
    faults = [*_replaced_settings(config, storage), *_mlflow(config, storage), *_earlier_run(config, storage)]
    refuse("the configuration does not suit Ray:", faults)
    check_store(config)


def _replaced_settings(config: Config, storage: RunStorage) -> Iterator[str]:
    trainer, limit = config.trainer, config.trainer.limit_val_batches

    def given(*names: str) -> str:
        return " and ".join(f"{name}={attrgetter(name)(config)}" for name in names)

    if trainer.devices not in ("auto", 1):
        why = "under Ray the second says how many processes train; leave the first at auto"
        yield f"{given('trainer.devices', 'ray.num_workers')}: {why}"
    if trainer.accelerator not in ("auto", "gpu" if config.ray.use_gpu else "cpu"):
        yield f"{given('trainer.accelerator', 'ray.use_gpu')}: must agree; leave the first at auto"
    if not trainer.enable_checkpointing:
        yield (
            "trainer.enable_checkpointing=false: under Ray a run must keep checkpoints: it resumes from them "
            "after a failure, and its export is made of the best; leave it at true"
        )
    # Ranks share the validation videos out, so a limit per rank keeps other videos at another number.
    is_limited = limit != 0 and (isinstance(limit, int) or limit < 1.0)
    if is_limited and config.ray.min_workers != config.ray.max_workers:
        yield (
            f"{given('trainer.limit_val_batches', 'ray.num_workers')}: the limit is per worker, so that "
            "scores would be of other videos as their number changes; leave it at 1.0 (or 0 for none), and "
            "give fewer videos (valdataset.data_path)"
        )
    if storage.is_remote and not has_default_save_dir(config):
        why = "checkpoints are kept in the run's storage; leave save_dir at its default"
        yield f"{given('save_dir', 'ray.storage_path')}: {why}"


def _mlflow(config: Config, storage: RunStorage) -> Iterator[str]:
    if "mlflow" not in config.chosen_loggers:
        return
    store = store_of(config)
    if storage.is_remote and sqlite_file(store):
        yield (
            f"mlflow_uri={store} with ray.storage_path={config.ray.storage_path}: workers may have no folder "
            "in common; give the address of an MLflow server"
        )
    if without_passwords(store) != store:
        yield (
            "MLFLOW_TRACKING_URI contains a password, and workers would get it from a stored configuration; "
            "leave it out, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for driver and "
            "workers"
        )


def _earlier_run(config: Config, storage: RunStorage) -> list[str]:
    """Return a fault if the run's storage holds checkpoints, and nothing says that this run resumes them."""
    root = storage.checkpoints
    if config.resume == "auto" or _is_in(config.resume, (storage.root, root)):
        return []
    try:
        if not CheckpointStore(root, pauses=()).holds_any():
            return []
    except OSError:
        return []  # `check_writable` says what is wrong with it
    return [
        f"{root} holds the checkpoints of an earlier run, which this one would replace; resume from them "
        "with resume=auto, or give this run another output_dir or ray.name"
    ]


def _is_in(path: str | None, folders: tuple[str, ...]) -> bool:
    if not path:
        return False
    full = path if "://" in path else str(Path(path).expanduser().absolute())
    return any(full == folder or full.startswith(f"{folder}/") for folder in folders)


# Of the cluster


def check_cluster(config: Config, storage: RunStorage) -> None:
    """Raise one ConfigError with every reason why the cluster cannot run `config`.

    The paths of `config` must be absolute, and this process connected to the cluster.
    """
    capacity = cluster_capacity()
    faults = find_faults(config, capacity)
    faults += find_storage_faults(config, storage, capacity)
    try:
        check_writable(storage)
        folders, features = {storage.root, storage.save_dir or storage.root}, config.dataset.feature_cache
        if features and "://" not in features:
            folders.add(features)
        database = sqlite_file(store_of(config)) if "mlflow" in config.chosen_loggers else None
        if database is not None:  # on another machine MLflow would begin a new one
            folders.add(str(database.parent))
        faults += [fault for folder in sorted(folders) for fault in find_unshared(RunStorage(folder))]
    except ConfigError as error:
        faults.append(str(error))
    refuse(CLUSTER, faults)
    _say_how_many_fit(config.ray, capacity)


def find_faults(config: Config, capacity: Capacity) -> list[str]:
    """Return the faults of a configuration that needs more than the cluster has or may get."""
    faults = [*_cpus(config.ray, capacity), *_decoders(config.ray, capacity)]
    faults += [*_other_resources(config.ray, capacity), *_places(config.ray, capacity)]
    # With a feature cache the size of a clip is known only once the model is loaded.
    return faults if config.dataset.feature_cache else faults + find_clip_faults(config, capacity)


def find_storage_faults(config: Config, storage: RunStorage, capacity: Capacity) -> list[str]:
    """Return a fault if nodes that may be added later cannot be checked for the run's folder yet."""
    if not capacity.may_grow or storage.is_remote or config.ray.storage_path:
        return []
    return [
        f"storage: output_dir={config.output_dir} is a folder of this machine, but the cluster may grow by "
        "nodes that do not have it; set ray.storage_path to a folder that every node reaches (this one too, "
        "if it is), or to an address such as s3://bucket/folder"
    ]


def _cpus(settings: RayConfig, capacity: Capacity) -> Iterator[str]:
    most = capacity.most("CPU")
    for workers in (settings.min_workers, num_started(settings, capacity)):
        cpus = workers * settings.cpus_per_worker + decoding_cpus(settings)
        if cpus > most:
            yield (
                f"CPUs: {_workers(settings, workers)} x ray.cpus_per_worker={settings.cpus_per_worker} + "
                f"ray.decode_actors={settings.decode_actors} + {INDEX_CPUS} to feed them = {cpus}, but the "
                f"cluster {_has(capacity)} {most:g}; the workers would take theirs and wait for data for "
                "ever. Lower one of them, add nodes, or for Ray on this machine set "
                f"ray.local_cpus={cpus}"
            )
            return


def _decoders(settings: RayConfig, capacity: Capacity) -> Iterator[str]:
    """Yield a fault if the nodes with the labels of decoding are too small, or workers may take them."""
    labels = settings.decode_labels
    if not labels:
        return
    cpus, most = decoding_cpus(settings), capacity.most("CPU", labels)
    if cpus > most:
        known = {f"{k}={v}" for node in capacity.nodes for k, v in node.labels.items() if "ray.io" not in k}
        yield (
            f"decoding: ray.decode_actors={settings.decode_actors} + {INDEX_CPUS} to feed them = {cpus} CPUs "
            f"on nodes with ray.decode_labels={labels}, but those {_has(capacity, 'have')} {most:g}; the "
            f"labels of the nodes there are: {', '.join(sorted(known)) or 'none'}. Start Ray on the nodes "
            "that shall decode with `--labels`, lower ray.decode_actors, or leave ray.decode_labels empty"
        )
        return
    beside = min(num_started(settings, capacity), capacity.most_places(worker_needs(settings), labels))
    if most < cpus + beside * settings.cpus_per_worker:
        yield (
            f"decoding: {beside} workers x ray.cpus_per_worker={settings.cpus_per_worker} find a place on "
            f"nodes with ray.decode_labels={labels}, which {_has(capacity, 'have')} {most:g} CPUs; {cpus} "
            "must stay for decoding. Keep workers away by a resource that only other nodes have "
            "(ray.worker_resources)"
        )


def _other_resources(settings: RayConfig, capacity: Capacity) -> Iterator[str]:
    for name, amount in worker_needs(settings).items():
        needed, most = settings.min_workers * amount, capacity.most(name)
        if name != "CPU" and needed > most:
            is_gpu = name == "GPU"
            yield (
                f"{'GPUs' if is_gpu else name}: {_workers(settings)} x {amount:g} = {needed:g}, but the "
                f"cluster {_has(capacity)} {most:g}; lower ray.num_workers, add nodes, or "
                f"{'set ray.use_gpu=false' if is_gpu else 'change ray.worker_resources'}"
            )


def _places(settings: RayConfig, capacity: Capacity) -> Iterator[str]:
    """Yield a fault if the sums suffice, but not enough single nodes can hold a worker."""
    needs = worker_needs(settings)
    places = capacity.most_places(needs)
    short = any(settings.min_workers * amount > capacity.most(name) for name, amount in needs.items())
    if short or capacity.limits or places >= settings.min_workers:
        return
    kinds = [node.resources for node in capacity.nodes]
    kinds += [kind.resources for kind in capacity.autoscaler.node_types] if capacity.autoscaler else []
    shapes = {_listed({name: kind.get(name, 0) for name in needs}) for kind in kinds}
    yield (
        f"nodes: a worker takes {_listed(needs)} of a single node, so that {places} of {_workers(settings)} "
        f"find a place; the nodes have {'; '.join(sorted(shapes))}. Lower ray.cpus_per_worker or "
        "ray.num_workers, or add larger nodes"
    )


def find_clip_faults(config: Config, capacity: Capacity, frame_bytes: int | None = None) -> list[str]:
    """Return a fault if the object store has no room for the clips in flight.

    `frame_bytes` is as for `clip_bytes`.
    """
    settings, batch, per_clip = config.ray, config.dataset.batch_size, clip_bytes(config, frame_bytes)
    store = capacity.now("object_store_memory")
    batches = settings.min_workers * settings.prefetch_batches + settings.decode_actors * BATCHES_PER_ACTOR
    needed = per_clip * batch * batches
    # Nobody knows yet how much memory the nodes to come will bring.
    if capacity.may_grow or needed <= store:
        return []
    return [
        f"object store: ({_workers(settings)} x ray.prefetch_batches={settings.prefetch_batches} + "
        f"ray.decode_actors={settings.decode_actors} x {BATCHES_PER_ACTOR} in flight) x dataset.batch_size="
        f"{batch} x {per_clip / _MIB:.1f} MiB per clip = {needed / _MIB:.0f} MiB, but the cluster has "
        f"{store / _MIB:.0f} MiB; lower one of them, or start Ray with a larger --object-store-memory"
    ]


def _say_how_many_fit(settings: RayConfig, capacity: Capacity) -> None:
    free = capacity.now("CPU") - decoding_cpus(settings)
    fit = max(0, min(capacity.places_now(worker_needs(settings)), int(free // settings.cpus_per_worker)))
    if fit < settings.max_workers:
        later = (
            f"the run begins with at least {settings.min_workers} and grows as nodes come"
            if settings.min_workers < settings.max_workers
            else "it begins when nodes for the others have come"
        )
        said = "of up to %d workers (ray.num_workers) %d fit on the nodes there are; %s"
        log.warning(said, settings.max_workers, fit, later)


def refuse(heading: str, faults: list[str]) -> None:
    """Raise one ConfigError with the `faults`, if there are any."""
    if faults:
        raise ConfigError("\n".join([heading, *(f"  - {fault}" for fault in faults)]))


def _workers(settings: RayConfig, started: int | None = None) -> str:
    if settings.min_workers == settings.max_workers:
        return f"ray.num_workers={settings.max_workers}"
    if started is not None and started > settings.min_workers:
        return f"{started} workers, as many of ray.num_workers={settings.num_workers} as find a place,"
    return f"ray.num_workers.min={settings.min_workers}"


def _has(capacity: Capacity, verb: str = "has") -> str:
    return "may grow to" if capacity.may_grow else verb


def _listed(resources: dict[str, float]) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in resources.items())
