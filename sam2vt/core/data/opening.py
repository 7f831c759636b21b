"""Open the records that settings name.

- `load_records(dataset_type, data_path, ...)`, in formats: a layout on disk, recognised and read completely.
- `open_records(settings)`: the data of one `DatasetConfig`, by row where it is a table or a pack.
- `open_train_val(config)`: both sides of a run, by its `valdataset` or its `split`.
- `open_run(config)`: these, and the further validation sets of a run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sam2vt.config import READING, Config, DatasetConfig
from sam2vt.configuration.mixture import members
from sam2vt.configuration.valdatasets import each_alone, naming, of_validation
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


class RunRecords(NamedTuple):
    """The videos of a run."""

    train: Records
    val: Records
    further: Mapping[str, Records] = {}  # further validation sets, by their names in `valdatasets`


def open_run(config: Config, found: RunRecords | tuple[Records, Records] | None = None) -> RunRecords:
    """Open all videos of a run but those that are `found` already.

    A further set without data of its own has the videos of `valdataset`.
    """
    train, val, known = RunRecords(*(found or open_train_val(config)))
    further = dict(known)
    for name, only in each_alone(config).items():
        if name in further:
            continue
        given, own = config.valdataset, only.valdataset
        names = ("data_path", "datasets", *READING)
        is_same = not own.is_given or all(getattr(own, each) == getattr(given, each) for each in names)
        with naming(name):
            further[name] = val if is_same else open_records(own)
    return RunRecords(train, val, further)


def open_train_val(config: Config) -> tuple[Records, Records]:
    """Open (training records, validation records): two datasets, or one divided by `split`.

    In a mixture each dataset is divided; validation sees each of its videos once.
    """
    records = open_records(config.dataset)
    if config.valdataset.is_given:
        try:
            return records, open_records(config.valdataset)
        except DataError as error:  # the same settings of the training set would change nothing
            raise DataError(of_validation(str(error)), **error.place) from error
    split = (config.split, config.val_fraction, config.seed)
    if not isinstance(records, Mixture):
        return split_records(records, *split)
    sides = [split_records(part, *split) for part in records.parts]
    validation = records.over(lambda place, _: sides[place][1]).once()
    return records.over(lambda place, _: sides[place][0]), validation


def open_records(
    settings: DatasetConfig, faults: list[DataError] | None = None, notes: list[str] | None = None
) -> Records:
    """Open the videos at `data_path` of these settings, or the mixture of their `datasets`.

    Record tables and packed shards are read by row, anything else by `load_records`, which takes `faults` and
    `notes`. Raises ConfigError for settings without meaning for this data, DataError for data that cannot be
    used.
    """
    if settings.datasets:
        found = members(settings)
        mixture = Mixture(found, [open_records(member.settings, faults, notes) for member in found])
        log.info("%s", mixture)
        return mixture
    path = check_text(str(settings.data_path))
    # By its name alone: a URI is not opened to find out.
    is_table = path.endswith(SUFFIX)
    folder = None if is_table or not path else pack_at(path)
    if not is_table and folder is None:
        given: dict[str, Any] = {name: getattr(settings, name) for name in READING}
        if isinstance(settings.colours, dict):  # YAML has lists, whose lengths the reader checks
            given["colours"] = {str(name): tuple(each) for name, each in settings.colours.items()}
        return load_records(**given, data_path=path, faults=faults, notes=notes)
    # They were applied when the table was written; now they would be silently ignored.
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
