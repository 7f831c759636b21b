"""Which videos a configuration names."""

from __future__ import annotations

import json
import logging

import pytest
from PIL import Image

from sam2vt.config import Config
from sam2vt.core.data.dataset import dataset_from_config
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.opening import open_run, open_train_val
from sam2vt.core.data.records.table import RecordTable, write_records
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.training.data_module import SAM2LightningDataModule
from sam2vt.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_sample_data(folder / "data", num_videos=3, num_frames=6, size=(48, 64))
    write_records(load_records("auto", folder / "data"), folder / "videos.parquet")
    return folder


def configured(folder, name, split="none") -> Config:
    config = Config(split=split)
    config.dataset.data_path = str(folder / name)
    for dataset in (config.dataset, config.valdataset):
        dataset.image_size, dataset.video_clip_length = (64, 64), 2
    return config


@pytest.mark.parametrize("split", ["none", "video", "time"])
def test_a_table_stands_for_what_it_was_written_from(folder, split, caplog) -> None:
    with caplog.at_level(logging.INFO):
        found = open_train_val(configured(folder, "videos.parquet", split))
    assert "videos.parquet: recognised as a record table" in caplog.text
    assert "3 videos" in caplog.text
    expected = open_train_val(configured(folder, "data", split))
    assert [list(side) for side in found] == [list(side) for side in expected]
    clips, same = (
        dataset_from_config(configured(folder, name).dataset)[1] for name in ("videos.parquet", "data")
    )
    assert (clips["images"] == same["images"]).all()
    assert (clips["masks"] == same["masks"]).all()


def test_a_table_of_its_own_to_validate_on(folder, tmp_path) -> None:
    write_records(load_records("auto", folder / "data")[1:2], tmp_path / "val.parquet")
    config = configured(folder, "videos.parquet")
    config.valdataset.data_path = str(tmp_path / "val.parquet")
    train, val = open_train_val(config)
    assert (len(train), [record.video_id for record in val]) == (3, ["sample_01"])


def test_what_a_validation_set_needs_is_said_of_its_own_settings(folder, tmp_path) -> None:
    """Those of the training set would change nothing."""
    images = [{"id": n, "video_id": 1, "file_name": f"{n}.jpg", "width": 8, "height": 8} for n in (1, 2)]
    masks = [{"id": n, "image_id": n, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5]]} for n in (1, 2)]
    content = {"images": images, "annotations": masks, "categories": [{"id": 1, "name": "a"}]}
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content))
    for n in (1, 2):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{n}.jpg")
    config = configured(folder, "data")
    config.valdataset.data_path = str(path)
    with pytest.raises(DataError, match=r"/dataset\.json.* valdataset\.identity=category") as caught:
        open_train_val(config)
    assert " dataset.identity" not in str(caught.value)
    config.valdataset.data_path, config.valdatasets = "", {"other": {"data_path": str(path)}}
    with pytest.raises(DataError, match=r"/dataset\.json.* valdatasets\.other\.identity=category"):
        open_run(config)


def test_settings_that_the_table_has_answered(folder) -> None:
    config = configured(folder, "videos.parquet")
    config.dataset.identity = "iou"
    with pytest.raises(ConfigError, match="identity=iou, .*videos.parquet is a record table"):
        open_train_val(config)


def test_records_found_before_are_not_looked_for_again(folder) -> None:
    table = RecordTable(folder / "videos.parquet")
    module = SAM2LightningDataModule(configured(folder, "nowhere"), (table, table))
    module.setup()
    assert module.train_records is module.val_records is table
    assert module.train_dataset.records is table
