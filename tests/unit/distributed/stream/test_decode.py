"""Decoders that read records by row, and the blank clips of bad ones, against the local dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2vt.config import Config
from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.data.clips.drawing import make_clip
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.data.clips.sampling import ClipSampler
from sam2vt.core.data.clips.spec import ClipSpec
from sam2vt.core.data.records.table import RecordTable, write_records
from sam2vt.core.types import Batch, LabelImage, VideoRecord
from sam2vt.distributed.cluster.storage import run_storage
from sam2vt.distributed.source import find_clips
from sam2vt.distributed.stream.decode import ClipDecoder, DecodeJob
from sam2vt.distributed.stream.plan import Division, plan_stream
from sam2vt.distributed.stream.wire import unpack_clips
from sam2vt.errors import DataError

SPEC = ClipSpec((64, 64), 4, PromptGenerator(["point", "mask"]), seed=5)
CLIPS_PER_VIDEO = 3


def decoded(job: DecodeJob, config: Config) -> Iterator[Batch]:
    """All batches of a run of one worker, from a decoder in this process."""
    plan = plan_stream(config, job.sampling["num_videos"])
    decoder = ClipDecoder.__new__(ClipDecoder)
    decoder.job, decoder.division, decoder.first_slot = job, Division(plan, 1), 0
    for step in range(plan.total_steps):
        yield collate_fn(unpack_clips(decoder({"id": np.array(plan.rows(step, 0))})))


@pytest.fixture
def config() -> Config:
    config = Config(seed=5)
    config.ray.num_workers, config.dataset.batch_size = 1, 3
    config.dataset.clips_per_video, config.trainer.max_epochs = CLIPS_PER_VIDEO, 2
    return config


def job_of(table: RecordTable, quarantine: bool) -> DecodeJob:
    sampling = {"num_videos": 3, "clips_per_video": CLIPS_PER_VIDEO, "seed": 5, "shuffle": True}
    return DecodeJob(table, SPEC, sampling, quarantine)


@pytest.fixture
def with_a_bad_video(tmp_path: Path, records: list[VideoRecord]) -> RecordTable:
    """The masks of the last of three videos have vanished."""
    broken = dict.fromkeys(records[2].annotations, LabelImage(str(tmp_path / "vanished.png")))
    write_records([*records[:2], replace(records[2], annotations=broken)], tmp_path / "t.parquet")
    return RecordTable(tmp_path / "t.parquet")


def test_both_engines_give_the_same_blank_clips(config: Config, with_a_bad_video: RecordTable) -> None:
    got = list(decoded(job_of(with_a_bad_video, True), config))
    bad = [entry for batch in got for entry in batch.get("quarantined", [])]
    assert sorted((entry["epoch"], entry["index"]) for entry in bad) == [
        (epoch, index) for epoch in range(2) for index in (2, 5, 8)
    ]
    assert all("vanished.png" in entry["error"] for entry in bad)
    for epoch in range(2):
        keys = list(ClipSampler(3, CLIPS_PER_VIDEO, 5, True, epoch=epoch, batch_size=3))
        for step in range(3):
            clips = [make_clip(with_a_bad_video, key, SPEC, True) for key in keys[3 * step : 3 * step + 3]]
            local, stream = collate_fn(clips), got[3 * epoch + step]
            for name in ("images", "masks", "valid_masks"):
                assert torch.equal(local[name], stream[name])  # type: ignore[literal-required]
            assert local.get("quarantined") == stream.get("quarantined")
            assert local["frame_indices"] == stream["frame_indices"]


def test_without_quarantine_the_first_bad_clip_is_raised(
    config: Config, with_a_bad_video: RecordTable
) -> None:
    with pytest.raises(DataError, match=r"vanished.png.*does not exist"):
        list(decoded(job_of(with_a_bad_video, False), config))


@pytest.mark.parametrize("split", ["none", "video", "time"])
def test_records_found_lie_in_the_run(
    config: Config, tmp_path: Path, records: list[VideoRecord], split: str
) -> None:
    """And decoders and workers get references to them; a table that is given is not written again."""
    config.split, config.output_dir = split, str(tmp_path / "run")
    config.dataset.image_size, config.dataset.video_clip_length = (64, 64), 2
    config.dataset.clips_per_video = 3
    config.on_bad_sample = "quarantine"
    config.trainer.limit_val_batches = 0  # split=time leaves too few frames to score
    write_records(records, tmp_path / "t.parquet")
    config.dataset.data_path = str(tmp_path / "t.parquet")
    given = find_clips(config, run_storage(config))
    assert not (tmp_path / "run").exists()
    config.dataset.data_path = str(tmp_path / "data")
    _as_tree(records, tmp_path / "data")
    found = find_clips(config, run_storage(config))
    assert (found.plan, found.job.sampling) == (given.plan, given.job.sampling)
    assert found.job.quarantine
    assert found.job.records is found.records[0]
    folder = tmp_path / "run" / "records"
    assert sorted(path.name for path in folder.iterdir()) == (
        ["train.parquet"] if split == "none" else ["train.parquet", "val.parquet"]
    )
    for side, same in zip(found.records, given.records):
        assert [(each.video_id, each.frames) for each in side] == [
            (each.video_id, each.frames) for each in same
        ]


def test_what_validation_cannot_score_is_refused_by_the_driver(
    config: Config, tmp_path: Path, records: list[VideoRecord]
) -> None:
    alone = [replace(each, annotations={0: each.annotations[0]}) for each in records]
    write_records(alone, tmp_path / "t.parquet")
    config.dataset.data_path, config.output_dir = str(tmp_path / "t.parquet"), str(tmp_path / "run")
    with pytest.raises(DataError, match="J and F count no frame"):
        find_clips(config, run_storage(config))
    assert not (tmp_path / "run").exists()


def _as_tree(records: list[VideoRecord], folder: Path) -> None:
    for record in records:
        frames, masks = folder / "JPEGImages" / record.video_id, folder / "Annotations" / record.video_id
        frames.mkdir(parents=True)
        masks.mkdir(parents=True)
        for i, path in enumerate(record.frame_paths or ()):
            (frames / f"{i:03}.png").symlink_to(path)
            (masks / f"{i:03}.png").symlink_to(record.annotations[i].path)  # type: ignore[union-attr]
