"""The videos that a configuration names, for training and for validation."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sam2vt.config import Config, DatasetConfig
from sam2vt.configuration.mixture import members
from sam2vt.core.data.formats import load_records
from sam2vt.core.data.formats.listing import check_text
from sam2vt.core.data.formats.packed import open_packed, pack_at
from sam2vt.core.data.packed.manifest import MANIFEST
from sam2vt.core.data.records.mixture import Mixture
from sam2vt.core.data.records.splits import split_records
from sam2vt.core.data.records.table import SUFFIX, RecordTable
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError, DataError

log = logging.getLogger(__name__)

Records = Sequence[VideoRecord]


def find_records(config: Config) -> tuple[Records, Records]:
    """(train, validation): the two settings' data, or that of `dataset` divided by `split`.

    Records of a table are read by row, whatever the split. Of a mixture each set is divided.
    """
    records = open_dataset(config.dataset)
    if config.valdataset.is_given:
        return records, open_dataset(config.valdataset)
    split = (config.split, config.val_fraction, config.seed)
    if not isinstance(records, Mixture):
        return split_records(records, *split)
    sides = [split_records(part, *split) for part in records.parts]
    return records.over(lambda place, _: sides[place][0]), records.over(
        lambda place, _: sides[place][1]
    ).once()


def open_dataset(settings: DatasetConfig) -> Records:
    """The videos at `data_path`, or the mixture of `datasets`."""
    if not settings.datasets:
        return open_records(settings)
    found = members(settings)
    mixture = Mixture(found, [open_records(member.settings) for member in found])
    log.info("%s", mixture)
    return mixture


def open_records(
    settings: DatasetConfig, faults: list[DataError] | None = None, notes: list[str] | None = None
) -> Records:
    """The videos at `data_path`, by row of a record table or packed shards, else as `load_records`."""
    path, kind = check_text(settings.data_path), settings.dataset_type
    is_table = path.endswith(SUFFIX)
    folder = None if is_table or not path else pack_at(path)
    if not is_table and folder is None:
        return load_records(
            kind,
            path,
            identity=settings.identity,
            image_root=settings.image_root,
            allow_absolute_paths=settings.allow_absolute_paths,
            colours=_colour_table(settings.colours),
            faults=faults,
            notes=notes,
        )
    if settings.identity != "error" or settings.image_root or settings.colours:
        raise ConfigError(
            f"identity={settings.identity}, image_root={settings.image_root}, colours={settings.colours}: "
            f"data_path {path} is a record table or a pack, which was written with them; leave out "
            "dataset.identity (--identity), dataset.image_root (--image-root) and dataset.colours (--colours)"
        )
    if folder is None:
        table, what = RecordTable(path), f"a record table, because it is a {SUFFIX} file"
    else:
        table, what = open_packed(folder), f"packed shards, because it has a {MANIFEST}"
    log.info("%s: recognised as %s: %d videos", path, what, len(table))
    return table


def _colour_table(colours: dict[str, list[int]] | None) -> dict[str, tuple[int, int, int]] | None:
    """The colours of a configuration, whose lists are checked by the reader."""
    return {name: tuple(colour) for name, colour in colours.items()} if colours else None  # type: ignore[misc]
