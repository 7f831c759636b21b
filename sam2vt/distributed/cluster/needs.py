"""The resources that a run takes of a cluster."""

from __future__ import annotations

from sam2vt.config import Config, RayConfig
from sam2vt.distributed.cluster.capacity import Capacity

INDEX_CPUS = 1  # one task at a time reads and cuts the row numbers
BATCHES_PER_ACTOR = 2  # that Ray Data has in flight for each decode actor


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
    """Return how many workers Ray Train starts: all that find a place, whatever that leaves for decoding."""
    places = capacity.most_places(worker_needs(settings))
    return max(settings.min_workers, min(settings.max_workers, places))


def concurrent_trials(config: Config, capacity: Capacity) -> int:
    """Return how many runs of `config` fit on the cluster at its largest, at least 1.

    Each takes the resources of its fewest workers, and the CPUs for decoding. Preflight refuses what does
    not fit once.
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
