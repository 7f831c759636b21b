"""Convert records to a folder in another layout, for `sam2vt convert`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from sam2vt.core.data.records.fingerprint import fingerprint
from sam2vt.core.data.workers import with_progress
from sam2vt.core.data.writing.coco import join_parts, write_part
from sam2vt.core.data.writing.conversion import ConvertOptions, Losses
from sam2vt.core.data.writing.davis import join_names, write_labels, write_objects
from sam2vt.core.data.writing.folder import folder_names, work_folder
from sam2vt.core.data.writing.sav import write_sav
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError, DataError


class Target(NamedTuple):
    """A layout that can be written."""

    write: Callable[[VideoRecord, str, Path, ConvertOptions, Losses], None]  # one video
    join: Callable[[Sequence[str], Path], None] = lambda names, folder: None  # what all videos share


DEFAULT = ConvertOptions()
TARGETS = {
    "davis": Target(write_labels, join_names),
    "davis-objects": Target(write_objects, join_names),
    "sav": Target(write_sav),
    "coco": Target(write_part, join_parts),
}


def convert(
    records: Sequence[VideoRecord],
    out: str,
    target: str,
    options: ConvertOptions = DEFAULT,
    lossy: bool = False,
) -> None:
    """Write the videos to `out`, an empty or new folder; a stopped conversion is resumed.

    Raises ConfigError for an unknown target, DataError for data that cannot be read, and without `lossy` for
    things that the target cannot express.
    """
    check_target(target)
    losses, writer = Losses(target, lossy), TARGETS[target]
    names = folder_names(record.video_id for record in records)
    what = json.dumps([fingerprint(records), target, str(options), lossy])
    with work_folder(out, what) as work:
        for record in with_progress(records, len(records), "video"):
            # A conversion that was stopped resumes with the next video.
            if work.is_done(record.video_id):
                continue
            _check(record, losses)
            writer.write(record, names[record.video_id], work.path, options, losses)
            work.finish(record.video_id)
        writer.join(list(names.values()), work.path)
    losses.log()


def check_target(target: str) -> None:
    """Raise ConfigError for an unknown target."""
    if target not in TARGETS:
        raise ConfigError(f"--to {target}: allowed are {', '.join(TARGETS)}")


def _check(record: VideoRecord, losses: Losses) -> None:
    where = f"{record.source}: video {record.video_id}"
    if record.frame_range is not None:
        raise DataError(
            f"{where} is limited to frames {record.frame_range}; convert the data before its split"
        )
    if record.is_still:
        losses.tell(
            where,
            "it is a still image",
            "a still became a video of one frame",
            "keep it as plain COCO images",
        )
