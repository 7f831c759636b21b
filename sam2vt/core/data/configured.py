"""The videos that a configuration names, for training and for validation."""

from __future__ import annotations

from sam2vt.config import Config
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.splits import split_records
from sam2vt.core.types import VideoRecord


def find_records(config: Config) -> tuple[list[VideoRecord], list[VideoRecord]]:
    """(train, validation): the two data paths, or `dataset.data_path` divided by `split`."""
    train, val = config.dataset, config.valdataset
    records = load_records(
        train.dataset_type, train.data_path, identity=train.identity, image_root=train.image_root
    )
    if not val.data_path:
        return split_records(records, config.split, config.val_fraction, config.seed)
    return records, load_records(
        val.dataset_type, val.data_path, identity=val.identity, image_root=val.image_root
    )
