"""The clips of a run, as the driver finds them and as each group of workers gets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import ray
import ray.data

from sam2vt.config import Config
from sam2vt.distributed.decode import DecodeJob, build_dataset, quiet_ray_data
from sam2vt.distributed.plan import StreamPlan, plan_stream
from sam2vt.distributed.resuming import first_step_of
from sam2vt.distributed.storage import newest_metrics


class ClipSource(NamedTuple):
    """What a run trains on."""

    job: DecodeJob
    plan: StreamPlan
    first_step: int  # above 0 where `config.resume` goes on from an earlier run


def find_clips(config: Config) -> ClipSource:
    """Find the training videos and plan the stream over them. Takes seconds: it loads torch."""
    from sam2vt.core.data.configured import find_records
    from sam2vt.core.data.dataset import clip_spec

    settings = config.dataset
    records, _ = find_records(config)
    plan = plan_stream(config, len(records))
    spec = clip_spec(settings, config.seed, config.max_objects, records)
    sampling = {
        "num_videos": len(records),
        "clips_per_video": settings.clips_per_video,
        "seed": config.seed,
        "shuffle": settings.shuffle,
    }
    return ClipSource(DecodeJob(records, spec, sampling), plan, first_step_of(plan, config.resume))


@dataclass(frozen=True)
class Stream:
    """Builds the stream for each group of workers, from where the run's newest checkpoint stands.

    Called by Ray Train's controller, also after a failure.
    """

    job: ray.ObjectRef  # of a DecodeJob
    plan: StreamPlan
    first_step: int  # while the run has no checkpoint of its own
    decode_actors: int
    attempt: str  # where Ray Train keeps the run's state

    def __call__(self) -> ray.data.Dataset:
        quiet_ray_data()
        newest = newest_metrics(self.attempt)
        step = self.plan.step_at(int(newest["epoch"]), int(newest["clips"])) if newest else self.first_step
        first_row = step * self.plan.rows_per_step
        return build_dataset(self.job, self.plan, first_row=first_row, decode_actors=self.decode_actors)
