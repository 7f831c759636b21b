"""`sam2vt index`: a dataset's records as a table."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from sam2vt.commands.arguments import add_data, dataset_of
from sam2vt.config import READING
from sam2vt.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_data(parser)
    parser.add_argument("out", help="the table to write, such as videos.parquet: path or URI")


def run(options: argparse.Namespace) -> None:
    """Find the videos and write their table. Raises ConfigError for a name without the ending of a table."""
    from sam2vt.core.data.formats import load_records
    from sam2vt.core.data.records.table import SUFFIX, write_records

    # Checked first: a large dataset takes minutes to read.
    if not options.out.endswith(SUFFIX):
        raise ConfigError(f"{options.out}: the name of a record table has to end in {SUFFIX}")
    settings = asdict(dataset_of(options))
    records = load_records(data_path=options.data, **{name: settings[name] for name in READING})
    write_records(records, options.out)
    print(f"{len(records)} videos: {options.out}; train on them with dataset.data_path={options.out}")
