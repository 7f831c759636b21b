"""The videos that a configuration names, for training and for validation."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sam2vt.config import Config, DatasetConfig
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.record_table import SUFFIX, RecordTable
from sam2vt.core.data.splits import split_records
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError

log = logging.getLogger(__name__)

Records = Sequence[VideoRecord]


def find_records(config: Config) -> tuple[Records, Records]:
    """(train, validation): the two data paths, or `dataset.data_path` divided by `split`.

    Records of a table are read by row, whatever the split.
    """
    records = open_records(config.dataset)
    if not config.valdataset.data_path:
        return split_records(records, config.split, config.val_fraction, config.seed)
    return records, open_records(config.valdataset)


def open_records(settings: DatasetConfig) -> Records:
    """The videos at `data_path`: a record table where it is a .parquet file, else as `load_records`."""
    path, kind = settings.data_path, settings.dataset_type
    if not path.endswith(SUFFIX):
        return load_records(
            kind,
            path,
            identity=settings.identity,
            image_root=settings.image_root,
            allow_absolute_paths=settings.allow_absolute_paths,
            colours=colour_table(settings.colours),
        )
    if settings.identity != "error" or settings.image_root or settings.colours:
        raise ConfigError(
            f"identity={settings.identity}, image_root={settings.image_root}, colours={settings.colours}: "
            f"data_path {path} is a record table, which was written with them; leave them out"
        )
    table = RecordTable(path)
    log.info("%s: recognised as a record table, because it is a %s file: %d videos", path, SUFFIX, len(table))
    return table


def colour_table(colours: dict[str, list[int]] | None) -> dict[str, tuple[int, int, int]] | None:
    """The colours of a configuration, whose lists are checked by the reader."""
    return {name: tuple(colour) for name, colour in colours.items()} if colours else None  # type: ignore[misc]
