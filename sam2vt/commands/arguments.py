"""Add arguments that several verbs share, and open the dataset that they describe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from sam2vt.config import BY_COLOUR, READING, DatasetConfig, ModelConfig, TrainerConfig
from sam2vt.errors import ConfigError
from sam2vt.settings import choices, default_of, require, settings_of


def add_data(parser: argparse.ArgumentParser, note: str = "") -> None:
    """Add the dataset as the first argument, and options that say how to read it."""
    meaning = settings_of(DatasetConfig)["data_path"].meaning
    parser.add_argument("data", help=f"{meaning.rstrip('.')}{note}")
    add_reading(parser)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add options that say how to read a dataset."""
    meanings = {name: each.meaning for name, each in settings_of(DatasetConfig).items()}
    layouts = ", ".join(choices(DatasetConfig, "dataset_type"))
    parser.add_argument("--dataset-type", default="auto", help=layouts)
    parser.add_argument("--identity", default="error", help="COCO without track ids: category or iou")
    parser.add_argument("--image-root", help=meanings["image_root"])
    parser.add_argument("--allow-absolute-paths", action="store_true", help=meanings["allow_absolute_paths"])
    parser.add_argument(
        "--colours",
        type=_colour,
        nargs="+",
        help="masks in colours: cat=255,0,0 dog=0,255,0; or palette: an object is a colour, not an index",
    )


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add options that say how to build and run a checkpoint's model; names are those of `open_weights`."""
    parser.add_argument("--device", default="auto", help=settings_of(ModelConfig)["device"].allowed.text)
    precisions = choices(TrainerConfig, "precision")
    parser.add_argument("--precision", choices=precisions, default="32-true", help=", ".join(precisions))
    parser.add_argument("--network", help="the network's YAML, for weights alone")
    parser.add_argument("--image-size", type=int, help="pixels; default: what the checkpoint was made for")
    parser.add_argument(
        "--postprocessing",
        choices=choices(ModelConfig, "postprocessing"),
        default=default_of(ModelConfig, "postprocessing"),
        help="masks as SAM 2's video predictor makes them, or as in training (default: %(default)s)",
    )
    parser.add_argument(
        "--resize",
        choices=("area", "stock"),
        default="area",
        help="frames resized as in training, or as SAM 2's predictor does (default: %(default)s)",
    )
    parser.add_argument("--base", help="where the weights that the training started from are now, if moved")


def check_weights(options: argparse.Namespace) -> None:
    """Raise ConfigError for a device or an image size that is not allowed, before anything is read."""
    require(ModelConfig, "device", options.device, "--device")
    require(ModelConfig, "image_size", options.image_size, "--image-size")


def add_overrides(parser: argparse.ArgumentParser, example: str) -> None:
    """Add the overrides of a configuration."""
    # Without a default argparse would name them among those that are required.
    parser.add_argument("overrides", nargs="*", default=[], help=f"as for train, such as {example}")


def dataset_of(options: argparse.Namespace) -> DatasetConfig:
    """Return the dataset that the arguments of `add_data` describe."""
    reading = {name: getattr(options, name) for name in READING}
    if options.colours:
        by_colour = options.colours == [BY_COLOUR]
        if BY_COLOUR in options.colours and not by_colour:
            raise ConfigError(f"--colours: {BY_COLOUR} stands alone, without colours of classes")
        reading["colours"] = BY_COLOUR if by_colour else dict(options.colours)
    return DatasetConfig(data_path=options.data, **reading)


def records_of(options: argparse.Namespace) -> Sequence[Any]:
    """Return the records of the dataset that the arguments describe."""
    from sam2vt.core.data.opening import open_records

    return open_records(dataset_of(options))


def count(text: str) -> int:
    """Return an integer of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def positive(text: str) -> int:
    """Return an integer of at least 1."""
    if count(text) == 0:
        raise argparse.ArgumentTypeError("0 is not a whole number of 1 or more")
    return int(text)


def _colour(text: str) -> tuple[str, tuple[int, ...]] | str:
    """A class and its colour, or the word for the colours of the masks' own palettes."""
    if text == BY_COLOUR:
        return text
    name, _, numbers = text.partition("=")
    parts = numbers.split(",")
    if not name or len(parts) != 3 or not all(each.strip().isdecimal() for each in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no class with its colour, such as cat=255,0,0")
    return name, tuple(map(int, parts))
