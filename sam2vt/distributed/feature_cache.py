"""Fill the feature cache of a frozen encoder by actors of Ray Data, before the workers begin."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
import ray.data

from sam2vt.config import Config
from sam2vt.configuration.loading import from_dict, to_dict
from sam2vt.core.data.records.serialization import decode_record, encode_record
from sam2vt.distributed.cluster.capacity import cluster_capacity, worker_needs
from sam2vt.distributed.cluster.preflight import CLUSTER, find_clip_faults, refuse
from sam2vt.distributed.stream.decode import quiet_ray_data
from sam2vt.errors import DataError, Sam2vtError

if TYPE_CHECKING:
    from sam2vt.core.data.frames.feature_cache import FeatureCache
    from sam2vt.core.data.opening import Records
    from sam2vt.core.model.sam2 import SAM2Model

log = logging.getLogger(__name__)

_LINES = 10  # of the log
_MOST_BLOCKS = 1000  # each is a task; a million videos do not need a million


def fill_on_cluster(
    config: Config, cache: FeatureCache, records: Records, stop_if_asked: Callable[[], None]
) -> None:
    """Let actors encode the videos of `records` that are missing from the cache.

    There are as many actors as the minimum number of workers, each with the resources of a worker. Raises
    ConfigError if clips of features do not fit into the object store, DataError for a video that cannot
    be read.
    """
    from sam2vt.core.training.feature_cache import videos_to_cache

    refuse(CLUSTER, find_clip_faults(config, cluster_capacity(), cache.frame_bytes))
    # Features do not depend on annotations.
    videos = cache.missing(videos_to_cache(records))
    missing = [replace(record, annotations={}, object_ids=None) for record in videos]
    if not missing:
        return
    log.info("feature cache: %d videos to encode into %s", len(missing), cache.folder)
    rows = _encoded(config, cache, [{"record": encode_record(record)} for record in missing])
    for done, row in enumerate(rows.iter_rows(), start=1):
        stop_if_asked()
        if row["error"]:
            raise DataError(row["error"])
        if done % max(len(missing) // _LINES, 1) == 0:
            log.info("feature cache: %d of %d videos", done, len(missing))


def _encoded(config: Config, cache: FeatureCache, items: list[dict[str, str]]) -> ray.data.Dataset:
    """Return one row per item, with the reason if it could not be encoded."""
    quiet_ray_data()
    needs = worker_needs(config.ray)
    return ray.data.from_items(items, override_num_blocks=min(len(items), _MOST_BLOCKS)).map_batches(
        FrameEncoder,
        fn_constructor_args=(to_dict(config), ray.put(cache)),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(config.ray.min_workers, len(items))),
        num_cpus=needs.pop("CPU"),
        num_gpus=needs.pop("GPU", 0),
        resources=needs,
    )


class FrameEncoder:
    """An actor that runs all frames of a video through the encoder, into the cache."""

    def __init__(self, config: Mapping[str, Any], cache: ray.ObjectRef) -> None:
        import torch

        self.config, self.cache = from_dict(config), ray.get(cache)
        torch.set_num_threads(self.config.ray.cpus_per_worker)
        self.fault = ""
        try:
            found, self.model = configured_cache(self.config)
        except Sam2vtError as error:  # raised here, Ray would end the job with a traceback
            self.fault = str(error)
            return
        if found != self.cache:  # its features would be taken for those of the driver's weights
            node, weights = ray.util.get_node_ip_address(), self.config.model.checkpoint_path
            place = f"dataset.feature_cache: node {node}: model.checkpoint_path={weights}"
            self.fault = f"{place} has other weights than on the driver's node"
        self.model.to("cuda" if self.config.ray.use_gpu else "cpu")

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        faults = [self.fault or self._encode(text) for text in batch["record"]]
        return {"error": np.array(faults, dtype=object)}

    def _encode(self, text: str) -> str:
        from sam2vt.core.training.feature_cache import fill

        try:
            skip = self.config.on_bad_sample == "quarantine"
            fill(self.cache, self.model, [decode_record(text)], skip_damaged=skip)
        except Sam2vtError as error:
            return str(error)
        return ""


def configured_cache(config: Config) -> tuple[FeatureCache, SAM2Model]:
    """Return the configured cache, and the loaded model whose features it contains."""
    from sam2vt.core.training.feature_cache import cache_of
    from sam2vt.core.training.trainer import SAM2LightningModule

    assert config.dataset.feature_cache is not None
    module = SAM2LightningModule(config)
    module.setup()
    return cache_of(module.model, config.dataset.feature_cache), module.model
