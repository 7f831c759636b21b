"""Everything that is wrong with a dataset in one pass, and what it holds: `sam2vt validate`"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from sam2vt.config import DatasetConfig
from sam2vt.core.data.checking.dataset import DatasetFindings, check_dataset
from sam2vt.core.data.checking.findings import Fault
from sam2vt.core.data.checking.summary import format_summary, summarise
from sam2vt.core.data.checking.video import VideoCheck
from sam2vt.core.data.opening import open_records

_MOST_FAULTS = 50  # in the terminal; --json has all


def validate(
    settings: DatasetConfig,
    check: VideoCheck,
    *,
    image_size: int = 512,
    workers: int | None = None,
    as_json: bool = False,
    report: str | None = None,
) -> bool:
    """Print what a dataset holds and all its faults; whether it has none.

    `settings` say where it lies and how it is read. Raises ConfigError for those that cannot be.
    """
    data = settings.data_path
    found, records = check_dataset(
        data,
        lambda faults, notes: open_records(settings, faults, notes),
        check,
        image_size=image_size,
        workers=workers,
    )
    numbers = summarise(found)
    if report:
        from sam2vt.core.evaluation.dataset_page import write_page

        write_page(Path(report), found, numbers, records, check)
    if as_json:
        print(json.dumps(to_dict(found, numbers), indent=1))
    else:
        print("\n".join([*format_summary(data, numbers, check.depth), *_closing(found)]))
    return not found.faults


def to_dict(found: DatasetFindings, numbers: dict[str, Any]) -> dict[str, Any]:
    """The keys of --json."""
    faults = [fault.to_dict() for fault in found.faults]
    return {"path": found.path, "summary": numbers, "notes": found.notes, "faults": faults}


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


def _videos(faults: list[Fault]) -> str:
    counts = Counter(fault.video or "the dataset" for fault in faults)
    shown = ", ".join(f"{name} ({number})" for name, number in counts.most_common(5))
    return shown + (f" and {len(counts) - 5} other videos" if len(counts) > 5 else "")
