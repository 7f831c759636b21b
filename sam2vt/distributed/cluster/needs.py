"""The resources that a run takes of a cluster."""

from __future__ import annotations

from sam2vt.config import Config, RayConfig
from sam2vt.distributed.cluster.capacity import Capacity

INDEX_CPUS = 1  # one task at a time reads and cuts the row numbers


_BATCHES_AN_ACTOR = 2  # that Ray Data has in flight for each


def worker_needs(settings: RayConfig) -> dict[str, float]:
    """What one training worker takes of its node."""
    gpu = {"GPU": 1.0} if settings.use_gpu else {}
    return {"CPU": settings.cpus_per_worker, **gpu, **settings.worker_resources}


def clip_bytes(config: Config, frame_bytes: int | None = None) -> int:
    """The most that one clip takes in the object store: its frames, and a bit a pixel for each object.

    A frame takes `frame_bytes`, by default those of a uint8 image.
    """
    height, width = config.dataset.image_size
    pixels = config.dataset.video_clip_length * height * width
    frames = pixels * 3 if frame_bytes is None else config.dataset.video_clip_length * frame_bytes
    return frames + pixels * config.max_objects // 8


def _started(settings: RayConfig, capacity: Capacity) -> int:
    """How many workers Ray Train starts: as many as find a place, whatever that leaves for decoding."""
    places = capacity.most_places(worker_needs(settings))
    return max(settings.min_workers, min(settings.max_workers, places))


def concurrent_trials(config: Config, capacity: Capacity) -> int:
    """Trials of `config` that fit on the cluster as far as it may grow; at least 1, which preflight checks.

    Each takes its workers' resources, and the CPUs of its decoders with one that feeds them.
    """
    settings = config.ray
    workers, needs = settings.min_workers, worker_needs(settings)
    decoding = settings.decode_actors + INDEX_CPUS
    fits = [capacity.most("CPU") // (workers * settings.cpus_per_worker + decoding)]
    fits += [capacity.most(name) // (workers * amount) for name, amount in needs.items() if name != "CPU"]
    if settings.decode_labels:
        fits.append(capacity.most("CPU", settings.decode_labels) // decoding)
    if not capacity.limits:  # of which only sums are known
        fits.append(capacity.most_places(needs) // workers)
    return max(1, int(min(fits)))
