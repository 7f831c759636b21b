"""Fill a feature cache: compute a frozen encoder's features of all training videos once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from sam2vt.core.data.frames.feature_cache import FeatureCache, as_bits
from sam2vt.core.data.records.mixture import Mixture
from sam2vt.core.data.videos import video_frames
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sam2vt.core.data.opening import Records
    from sam2vt.core.model.sam2 import SAM2Model

log = logging.getLogger(__name__)

_LOG_SECONDS = 30.0


def cache_of(model: SAM2Model, root: str) -> FeatureCache:
    """Return the cache of a loaded model below `root`. Raises ConfigError if its encoder trains."""
    size = (model.image_size, model.image_size)
    return FeatureCache(root, model.describe_encoder(), tuple(model.kept_shapes), size)


def videos_to_cache(records: Records) -> Iterator[VideoRecord]:
    """Yield each video once. Raises ConfigError for a still, because each clip draws its frames anew."""
    for record in records.once() if isinstance(records, Mixture) else records:
        if record.is_still:
            raise ConfigError(
                f"dataset.feature_cache: {record.video_id} ({record.source}) is a still, which every clip "
                "shows with another camera motion; set dataset.feature_cache=null, or leave stills out"
            )
        yield record


def fill(
    cache: FeatureCache,
    model: SAM2Model,
    records: Iterable[VideoRecord],
    *,
    skip_damaged: bool = False,
    between_frames: Callable[[], None] = lambda: None,
) -> None:
    """Compute the missing features of the videos, on the model's device, one frame at a time.

    With `skip_damaged`, a video that cannot be read is skipped with a warning; its clips raise DataError
    later. `between_frames` is called before each frame and may raise to stop.
    """
    missing = list(cache.missing(records))
    if not missing:
        return
    total = sum(len(record.frames) for record in missing)
    log.info(
        "feature cache: %d frames of %d videos to encode into %s, %.1f MB per frame, %.1f GB",
        *(total, len(missing), cache.folder, cache.frame_bytes / 1e6, total * cache.frame_bytes / 1e9),
    )
    progress, device = _Progress(total), model.pixel_mean.device

    def encoded(record: VideoRecord) -> Iterator[Sequence[np.ndarray]]:
        for image in video_frames(record, cache.image_size):
            between_frames()
            # In full precision whatever the run's is, so that runs of any precision share a cache.
            with torch.autocast(device.type, enabled=False):
                levels = model.keep(image.unsqueeze(0).to(device))
            yield [as_bits(level[0]) for level in levels]
            progress.step()

    for record in missing:
        try:
            cache.write(record, encoded(record))
        except DataError as error:
            if not skip_damaged:
                raise
            log.warning("feature cache: video %s is left out: %s", record.video_id, error)


class _Progress:
    """Logs the progress twice per minute."""

    def __init__(self, total: int) -> None:
        self._done, self._total = 0, total
        self._began = self._told = time.monotonic()

    def step(self) -> None:
        """Count a frame, and log a line if one is due."""
        self._done += 1
        now = time.monotonic()
        if now - self._told < _LOG_SECONDS and self._done < self._total:
            return
        self._told = now
        rate = self._done / max(now - self._began, 1e-9)
        log.info("feature cache: %d of %d frames, %.1f per second", self._done, self._total, rate)
