"""The clips of a run, as the driver finds them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sam2vt.config import Config
from sam2vt.core.training.checkpoints.resume import check_training_checkpoint
from sam2vt.distributed.cluster.storage import RunStorage, run_storage
from sam2vt.distributed.feature_cache import configured_cache
from sam2vt.distributed.stream.decode import DecodeJob
from sam2vt.distributed.stream.plan import StreamPlan, plan_stream
from sam2vt.distributed.stream.start import DATA_STATE, Start

if TYPE_CHECKING:
    from sam2vt.core.data.opening import Records

RECORDS_FOLDER = "records"  # of the run: where the videos found lie for all its processes


class ClipSource(NamedTuple):
    """What a run trains on."""

    job: DecodeJob
    plan: StreamPlan
    start: Start  # after the checkpoint where `config.resume` names one
    records: tuple[Records, Records]  # for training and validation, read by row
    resumed_step: int = 0  # optimizer steps done in the checkpoint of `start`


def find_clips(config: Config) -> ClipSource:
    """Find the videos and plan the stream over those to train on. Takes seconds: it loads torch.

    Where the data is no record table yet, the records are written as one into the run's storage.
    """
    from sam2vt.core.data.dataset import clip_spec
    from sam2vt.core.data.opening import find_records
    from sam2vt.core.training.feature_cache import videos_to_cache
    from sam2vt.core.training.preflight import check_scorable

    settings = config.dataset
    records = find_records(config)
    check_scorable(config, records[1])
    if settings.feature_cache is not None:
        deque(videos_to_cache(records[0]), maxlen=0)  # refuses what cannot be cached
    train, val = stored_records(records, run_storage(config))
    resumed, step_done = _resumed(config)
    plan = plan_stream(config, len(train), resumed["clips_per_step"] if resumed else None)
    spec = clip_spec(settings, config.seed, config.max_objects, records[0])
    if settings.feature_cache is not None:
        spec = spec.reading(configured_cache(config)[0])
    sampling = {
        "num_videos": len(train),
        "clips_per_video": settings.clips_per_video,
        "seed": config.seed,
        "shuffle": settings.shuffle,
    }
    start = Start(0, 0, None)
    if resumed:
        step = plan.step_at(resumed["epoch"], resumed["clips"])
        start = Start(step, resumed["samples_seen"], config.resume)
    job = DecodeJob(train, spec, sampling, config.on_bad_sample == "quarantine")
    return ClipSource(job, plan, start, (train, val), step_done)


def _resumed(config: Config) -> tuple[Mapping[str, Any] | None, int]:
    """The position in the clips and the number of steps that `config.resume` holds.

    Raises CheckpointError for one of a run whose settings would have given another result.
    """
    if config.resume is None:
        return None, 0
    from sam2vt.core.model.checkpoints import read_checkpoint

    content = read_checkpoint(config.resume)
    check_training_checkpoint(config.resume, content, config)
    return content.get(DATA_STATE), content.get("global_step", 0)


def stored_records(records: tuple[Records, Records], storage: RunStorage) -> tuple[Records, Records]:
    """Training and validation records as references that cost every process the same, however many."""
    from sam2vt.core.data.records.mixture import Mixture
    from sam2vt.core.data.records.table import RecordsByRow, RecordTable, write_records

    def stored(found: Records, name: str) -> Records:
        if isinstance(found, Mixture):
            return found.over(lambda place, part: stored(part, f"{name}_{place}"))
        if isinstance(found, RecordsByRow):
            return found
        path = storage.join(RECORDS_FOLDER, f"{name}.parquet")
        write_records(found, path)
        return RecordTable(path)

    train, val = records
    table = stored(train, "train")
    return table, table if val is train else stored(val, "val")
