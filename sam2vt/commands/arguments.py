"""Arguments that several verbs share, and the dataset that they describe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from sam2vt.config import READING, DatasetConfig
from sam2vt.settings import choices, settings_of


def add_data(parser: argparse.ArgumentParser, note: str = "") -> None:
    """Add the dataset, as its first argument, and how it is read."""
    parser.add_argument("data", help=f"a folder of videos, a COCO JSON, a record table or a pack{note}")
    meanings = {name: each.meaning for name, each in settings_of(DatasetConfig).items()}
    layouts = ", ".join(choices(DatasetConfig, "dataset_type"))
    parser.add_argument("--dataset-type", default="auto", help=layouts)
    parser.add_argument("--identity", default="error", help="COCO without track ids: category or iou")
    parser.add_argument("--image-root", help=meanings["image_root"])
    parser.add_argument("--allow-absolute-paths", action="store_true", help=meanings["allow_absolute_paths"])
    parser.add_argument(
        "--colours", type=_colour, help="masks in colours: cat=255,0,0 dog=0,255,0", nargs="+"
    )


def add_overrides(parser: argparse.ArgumentParser, example: str) -> None:
    """Add the overrides of a configuration."""
    # Without a default argparse would name them among those that are required.
    parser.add_argument("overrides", nargs="*", default=[], help=f"as for train, such as {example}")


def dataset_of(options: argparse.Namespace) -> DatasetConfig:
    """Return the dataset that the arguments of `add_data` describe."""
    reading = {name: getattr(options, name) for name in READING}
    reading["colours"] = dict(options.colours) if options.colours else None
    return DatasetConfig(data_path=options.data, **reading)


def records_of(options: argparse.Namespace) -> Sequence[Any]:
    """Return the records of the dataset that the arguments describe."""
    from sam2vt.core.data.opening import open_records

    return open_records(dataset_of(options))


def count(text: str) -> int:
    """Return a whole number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def positive(text: str) -> int:
    """Return a whole number of 1 or more."""
    if count(text) == 0:
        raise argparse.ArgumentTypeError("0 is not a whole number of 1 or more")
    return int(text)


def _colour(text: str) -> tuple[str, tuple[int, ...]]:
    """A class and its colour."""
    name, _, numbers = text.partition("=")
    parts = numbers.split(",")
    if not name or len(parts) != 3 or not all(each.strip().isdecimal() for each in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no class with its colour, such as cat=255,0,0")
    return name, tuple(map(int, parts))
