"""`sam2vt validate`: a dataset's content, and everything that is wrong with it, in one pass."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sam2vt.commands.arguments import add_data, dataset_of, positive

if TYPE_CHECKING:
    from sam2vt.core.data.checking.dataset import DatasetFindings
    from sam2vt.core.data.checking.findings import DataFault

_MOST_FAULTS = 50  # in the terminal; --json has all
# Each depth reads what those before it read, and more.
_DEPTHS = ("headers", "masks", "all")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_data(parser)
    depths = "headers; masks: every mask, and a clip per video; all: every frame, too (default: %(default)s)"
    parser.add_argument("--read", default="masks", choices=_DEPTHS, help=depths)
    parser.add_argument("--clip-length", type=positive, default=5, help="frames (default: %(default)s)")
    parser.add_argument("--frame-stride", type=positive, default=1, help="frames (default: %(default)s)")
    parser.add_argument("--image-size", type=positive, default=512, help="pixels (default: %(default)s)")
    parser.add_argument("--workers", type=positive, help="processes (default: the number of CPUs)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--report", help="an HTML page to write, with histograms and random clips")


def run(options: argparse.Namespace) -> None:
    """Print the dataset's content and all its faults; exit code 1 where there are any.

    Raises ConfigError for settings that cannot be used.
    """
    from sam2vt.core.data.checking.dataset import check_dataset
    from sam2vt.core.data.checking.summary import format_summary, summarise
    from sam2vt.core.data.checking.video import VideoCheck
    from sam2vt.core.data.opening import open_records

    settings = dataset_of(options)
    check = VideoCheck(options.read, options.clip_length, options.frame_stride)
    found, records = check_dataset(
        options.data,
        lambda faults, notes: open_records(settings, faults, notes),
        check,
        image_size=options.image_size,
        workers=options.workers,
    )
    numbers = summarise(found)
    if options.report:
        from sam2vt.core.evaluation.dataset_page import write_page

        write_page(Path(options.report), found, numbers, records, check)
    if options.json:
        faults = [asdict(fault) for fault in found.faults]
        content = {"path": found.path, "summary": numbers, "notes": found.notes, "faults": faults}
        print(json.dumps(content, indent=1))
    else:
        print("\n".join([*format_summary(options.data, numbers, check.depth), *_closing(found)]))
    if found.faults:
        raise SystemExit(1)


def _closing(found: DatasetFindings) -> list[str]:
    lines = [f"note: {note}" for note in found.notes]
    if not found.faults:
        return [*lines, "no fault found"]
    lines.append(f"{len(found.faults)} {'fault' if len(found.faults) == 1 else 'faults'}:")
    lines += [f"  - {fault}" for fault in found.faults[:_MOST_FAULTS]]
    left = found.faults[_MOST_FAULTS:]
    if left:
        lines.append(f"  and {len(left)} more, of {_videos(left)}; --json lists all")
    return lines


def _videos(faults: list[DataFault]) -> str:
    counts = Counter(fault.video or "the dataset" for fault in faults)
    shown = ", ".join(f"{name} ({number})" for name, number in counts.most_common(5))
    return shown + (f" and {len(counts) - 5} other videos" if len(counts) > 5 else "")
