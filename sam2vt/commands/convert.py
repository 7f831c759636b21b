"""`sam2vt convert`: a dataset in another layout."""

from __future__ import annotations

import argparse

from sam2vt.commands.arguments import add_data, records_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_data(parser)
    parser.add_argument("out", help="the folder to write; an interrupted conversion is resumed")
    parser.add_argument("--to", required=True, help="davis, davis-objects, sav or coco")
    parser.add_argument("--encode", default="jpeg:95", help="frames of video files: jpeg:<quality> or png")
    parser.add_argument("--link", action="store_true", help="hard links to image files instead of copies")
    parser.add_argument("--fps", type=float, default=24.0, help="of videos written (default: %(default)s)")
    parser.add_argument("--lossy", action="store_true", help="leave out what the layout cannot say")


def run(options: argparse.Namespace) -> None:
    """Write the dataset and print how many videos it has."""
    from sam2vt.core.data.writing.conversion import ConvertOptions
    from sam2vt.core.data.writing.convert import check_target, convert

    check_target(options.to)  # before the data is opened, which may take minutes
    how = ConvertOptions(options.encode, options.link, options.fps)
    records = records_of(options)
    convert(records, options.out, options.to, how, options.lossy)
    print(f"{len(records)} videos: {options.out}")
