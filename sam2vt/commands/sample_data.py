"""`sam2vt sample-data`: a small dataset of generated videos."""

from __future__ import annotations

import argparse

from sam2vt.commands.arguments import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("out", help="the folder to write")
    parser.add_argument("--videos", type=int, default=3, help="number of videos (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=60, help="frames per video (default: %(default)s)")
    parser.add_argument("--seed", type=count, default=0)
    style = "plain: two bright objects; varied: all textures, shapes and motions; held-out: others, to judge"
    parser.add_argument("--style", default="plain", help=f"{style} (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    """Write the videos. Raises ConfigError or DataError if they cannot be written."""
    from sam2vt.core.data.writing.sample_data import write_sample_data

    write_sample_data(options.out, options.videos, options.frames, seed=options.seed, style=options.style)
    print(f"{options.videos} videos of {options.frames} frames: {options.out}")
