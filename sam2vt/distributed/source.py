"""Find the videos of a run and plan the stream over them, in the driver."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from sam2vt.config import Config
from sam2vt.core.training.checkpoints.resume import FoundCheckpoint, ResumePoint, resume_point
from sam2vt.distributed.cluster.storage import RunStorage
from sam2vt.distributed.feature_cache import configured_cache
from sam2vt.distributed.stream.decode import DecodeJob
from sam2vt.distributed.stream.plan import StreamPlan, plan_stream
from sam2vt.distributed.stream.start import Start
from sam2vt.imports import importing

if TYPE_CHECKING:
    from sam2vt.core.data.opening import Records, RunRecords

RECORDS_FOLDER = "records"  # in the run folder, so that all its processes find the videos without a search


class ClipSource(NamedTuple):
    """The clips that a run trains on, and where it starts."""

    job: DecodeJob
    plan: StreamPlan
    start: Start  # after the checkpoint that `config.resume` names, if any
    records: RunRecords  # read by row
    resumed: ResumePoint | None = None  # what `start` was made of


def find_clips(config: Config, storage: RunStorage, found: FoundCheckpoint | None = None) -> ClipSource:
    """Find the videos, and plan the stream over those to train on; takes seconds, since it loads torch.

    The records are written as tables into the run's storage unless the data is a table already. The stream
    begins after the checkpoint that was `found`. Raises ConfigError, DataError, or CheckpointError if the
    run cannot resume from it.
    """
    with importing():
        from sam2vt.core.data.dataset import clip_spec
        from sam2vt.core.data.opening import open_run
        from sam2vt.core.training.preflight import check_training

    settings = config.dataset
    records = open_run(config)
    check_training(config, records, config.ray.max_workers)
    stored = stored_records(records, storage)
    train = stored.train
    resumed = None if found is None else resume_point(found, config)
    position = None
    if resumed is not None:
        # Each worker reads the file itself; the driver needs no copy of it in memory.
        position, resumed = resumed.position, replace(resumed, content=None)
    plan = plan_stream(config, len(train), position["clips_per_step"] if position else None)
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
    if resumed is not None and position is not None:
        step = plan.step_at(position["epoch"], position["clips"])
        start = Start(step, position["samples_seen"], resumed.path)
    job = DecodeJob(train, spec, sampling, config.on_bad_sample == "quarantine")
    return ClipSource(job, plan, start, stored, resumed)


def stored_records(records: RunRecords | tuple[Records, Records], storage: RunStorage) -> RunRecords:
    """Return a run's records as references to tables, of constant size for any number."""
    from sam2vt.core.data.opening import RunRecords
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

    train, val, further = RunRecords(*records)
    train_table = stored(train, "train")
    val_table = train_table if val is train else stored(val, "val")
    tables = {
        name: val_table if found is val else stored(found, f"val-{name}") for name, found in further.items()
    }
    return RunRecords(train_table, val_table, tables)
