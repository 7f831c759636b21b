"""`sam2vt pack`: a dataset as Parquet shards, and their check."""

from __future__ import annotations

import argparse

from sam2vt.commands.arguments import add_data, positive, records_of
from sam2vt.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_data(parser, "; with --verify a pack")
    parser.add_argument("out", nargs="?", help="folder or URI to write to; an interrupted pack is resumed")
    parser.add_argument(
        "--segment-frames", type=positive, default=16, help="frames per row (default: %(default)s)"
    )
    parser.add_argument(
        "--shard-mb", type=positive, default=128, help="megabytes per file (default: %(default)s)"
    )
    parser.add_argument("--encode", default="keep", help="keep, png or jpeg:<quality> (default: %(default)s)")
    parser.add_argument("--workers", type=positive, help="processes (default: the number of CPUs)")
    parser.add_argument("--verify", action="store_true", help="compare the files with their checksums")


def run(options: argparse.Namespace) -> None:
    """Write the shards, or check those of a pack; a bad one ends with exit code 1."""
    from sam2vt.core.data.writing.pack import PackOptions, pack

    if options.verify:
        return _verify(options.data)
    if options.out is None:
        raise ConfigError("OUT is missing: the folder or URI to write to, as in `sam2vt pack DATA OUT`")
    how = PackOptions(options.segment_frames, options.shard_mb, options.encode)
    made = pack(records_of(options), options.out, how, options.workers)
    num_bytes = sum(part.bytes for part in made.parts)
    print(f"{made.videos} videos of {made.frames} frames in {len(made.shards)} shards of {num_bytes} bytes")
    print(f"train on them with dataset.data_path={options.out}")


def _verify(path: str) -> None:
    """Print the files that differ from their checksums."""
    from sam2vt.core.data.formats.packed import verify

    manifest, faults = verify(path)
    for fault in faults:
        print(fault)
    print(f"{len(manifest.parts)} files, {len(faults)} of them bad")
    if faults:
        raise SystemExit(1)
