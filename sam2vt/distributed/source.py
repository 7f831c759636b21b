"""The clips of a run, as the driver finds them."""

from __future__ import annotations

from typing import NamedTuple

from sam2vt.config import Config
from sam2vt.distributed.decode import DecodeJob
from sam2vt.distributed.plan import StreamPlan, plan_stream
from sam2vt.distributed.resuming import Start, data_state


class ClipSource(NamedTuple):
    """What a run trains on."""

    job: DecodeJob
    plan: StreamPlan
    start: Start  # after the checkpoint where `config.resume` names one


def find_clips(config: Config) -> ClipSource:
    """Find the training videos and plan the stream over them. Takes seconds: it loads torch."""
    from sam2vt.core.data.configured import find_records
    from sam2vt.core.data.dataset import clip_spec

    settings = config.dataset
    records, _ = find_records(config)
    resumed = data_state(config.resume)
    plan = plan_stream(config, len(records), resumed["clips_per_step"] if resumed else None)
    spec = clip_spec(settings, config.seed, config.max_objects, records)
    sampling = {
        "num_videos": len(records),
        "clips_per_video": settings.clips_per_video,
        "seed": config.seed,
        "shuffle": settings.shuffle,
    }
    start = Start(0, 0, None)
    if resumed:
        step = plan.step_at(resumed["epoch"], resumed["clips"])
        start = Start(step, resumed["samples_seen"], config.resume)
    return ClipSource(DecodeJob(records, spec, sampling), plan, start)
