"""How many trials the cluster can hold at the same time."""

from __future__ import annotations

from sam2vt.config import Config
from sam2vt.distributed.cluster.capacity import Capacity
from sam2vt.distributed.cluster.preflight import INDEX_CPUS, worker_needs


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
