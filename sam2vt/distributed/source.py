"""The clips of a run, as the driver finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sam2vt.config import Config
from sam2vt.distributed.decode import DecodeJob
from sam2vt.distributed.plan import StreamPlan, plan_stream
from sam2vt.distributed.resuming import Start, data_state
from sam2vt.distributed.storage import RunStorage, run_storage

if TYPE_CHECKING:
    from sam2vt.core.data.configured import Records

RECORDS_FOLDER = "records"  # of the run: where the videos found lie for all its processes


class ClipSource(NamedTuple):
    """What a run trains on."""

    job: DecodeJob
    plan: StreamPlan
    start: Start  # after the checkpoint where `config.resume` names one
    records: tuple[Records, Records]  # for training and validation, read by row


def find_clips(config: Config) -> ClipSource:
    """Find the videos and plan the stream over those to train on. Takes seconds: it loads torch.

    Where the data is no record table yet, the records are written as one into the run's storage.
    """
    from sam2vt.core.data.configured import find_records
    from sam2vt.core.data.dataset import clip_spec

    settings = config.dataset
    records = find_records(config)
    train, val = stored_records(records, run_storage(config))
    resumed = data_state(config.resume)
    plan = plan_stream(config, len(train), resumed["clips_per_step"] if resumed else None)
    spec = clip_spec(settings, config.seed, config.max_objects, records[0])
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
    return ClipSource(job, plan, start, (train, val))


def stored_records(records: tuple[Records, Records], storage: RunStorage) -> tuple[Records, Records]:
    """Training and validation records as references that cost every process the same, however many."""
    from sam2vt.core.data.record_table import RecordsByRow, RecordTable, write_records

    def stored(found: Records, name: str) -> Records:
        if isinstance(found, RecordsByRow):
            return found
        path = storage.join(RECORDS_FOLDER, name)
        write_records(found, path)
        return RecordTable(path)

    train, val = records
    table = stored(train, "train.parquet")
    return table, table if val is train else stored(val, "val.parquet")
