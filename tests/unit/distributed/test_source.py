"""The videos of a run on Ray, as its driver hands them to the workers."""

from __future__ import annotations

import pickle
from pathlib import Path

from sam2vt.config import Config
from sam2vt.core.data.records.table import RecordTable
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.training.data_module import SAM2LightningDataModule
from sam2vt.distributed.cluster.storage import run_storage
from sam2vt.distributed.source import RECORDS_FOLDER, find_clips


def test_workers_validate_on_every_set(tmp_path: Path) -> None:
    for name, number in (("videos", 2), ("davis", 1)):
        write_sample_data(tmp_path / name, num_videos=number, num_frames=4, size=(48, 64))
    config = Config(output_dir=str(tmp_path / "run"))
    config.dataset.data_path = str(tmp_path / "videos")
    for dataset in (config.dataset, config.valdataset):
        dataset.image_size, dataset.video_clip_length, dataset.num_workers = (64, 64), 2, 0
    config.valdatasets = {
        "davis": {"data_path": str(tmp_path / "davis")},
        "clicks": {"prompt_types": ["point"]},
    }
    records = pickle.loads(pickle.dumps(find_clips(config, run_storage(config)).records))
    assert all(isinstance(each, RecordTable) for each in (*records[:2], *records.further.values()))
    written = {path.stem for path in (tmp_path / "run" / RECORDS_FOLDER).iterdir()}
    assert written == {"train", "val-davis"}  # the others are the training videos

    data = SAM2LightningDataModule(config, records)
    data.setup("fit")
    clips, videos = data.val_dataloader()[::2], data.val_dataloader()[1::2]
    assert [len(loader) for loader in clips] == [len(loader) for loader in videos] == [2, 1, 2]
    kinds = [{prompt["type"] for prompt in next(iter(loader))["prompts"][0]} for loader in clips]
    assert kinds == [{"mask"}, {"mask"}, {"point"}]
