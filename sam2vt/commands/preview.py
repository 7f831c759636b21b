"""`sam2vt preview`: a picture of clips as training samples them."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2vt.commands.arguments import add_overrides, positive
from sam2vt.composing import load_overrides
from sam2vt.config import DatasetConfig
from sam2vt.core.storage.disk import write_whole
from sam2vt.errors import ConfigError
from sam2vt.settings import settings_of

if TYPE_CHECKING:
    from sam2vt.config import Config
    from sam2vt.core.types import Clip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("data", help=settings_of(DatasetConfig)["data_path"].meaning)
    add_overrides(parser, "dataset/augment=strong")
    parser.add_argument("--out", default="preview.png", help="the PNG to write (default: %(default)s)")
    parser.add_argument("--clips", type=positive, default=4, help="how many (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    """Draw the first clips of a training and write them as a PNG, one row per clip.

    Raises ConfigError or DataError for what cannot be used.
    """
    from sam2vt.core.evaluation.sheets import draw_sheet

    # Before the clips are drawn, which takes a while.
    path = Path(options.out)
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--out {options.out}: has to end in .png")

    def on_data(composed: Any) -> None:
        # A path is taken as it is, while OmegaConf would look for ${name}.
        composed.dataset.data_path = re.sub(r"(\\*)\$\{", r"\1\1\\${", options.data)

    config = load_overrides(options.overrides, on_data)
    sheet = draw_sheet(*_first_clips(config, options.clips), config.style)
    try:
        with write_whole(path) as written:
            sheet.save(written, format="PNG")
    except OSError as error:
        text = f"--out {options.out}: cannot be written: {error.strerror}; name another file"
        raise ConfigError(text) from None
    print(path)


def _first_clips(config: Config, number: int) -> tuple[list[Clip], dict[str, dict[int, Any]]]:
    """Return the clips, and the objects' names by video, where every object is of its own video."""
    from sam2vt.core.data.clips.sampling import sample_at
    from sam2vt.core.data.dataset import dataset_from_config, object_names
    from sam2vt.core.data.opening import open_train_val

    records, _ = open_train_val(config)
    dataset = dataset_from_config(
        config.dataset, records=records, seed=config.seed, max_objects=config.max_objects
    )
    # More clips per video where there are fewer videos than clips to draw.
    per_video = max(config.dataset.clips_per_video, -(-number // len(records)))
    how = (len(records), per_video, config.seed, config.dataset.shuffle)
    keys = [sample_at(place, *how) for place in range(number)]
    clips = [dataset[key] for key in keys]
    return clips, object_names(config.dataset, records, keys, clips)
