"""Read YouTube-VOS's meta.json beside a tree: the objects of a video, and their categories."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sam2vt.core.data.formats.listing import alike, some, stem
from sam2vt.core.data.json_files import field, load_json, shown
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

META = "meta.json"


def read_meta(root: str) -> Callable[[VideoRecord], VideoRecord]:
    """Return what adds to a record what meta.json in its tree's root says of it; nothing, where there is
    none.

    An object that a mask shows and meta.json does not list is refused when the mask is read.
    """
    path = os.path.join(root, META)
    if not os.path.lexists(path):
        return lambda record: record
    data = load_json(path)
    # Other programs write a meta.json, too.
    if not isinstance(data, dict) or "videos" not in data:  # another program's
        return lambda record: record
    videos = {alike(name): video for name, video in field(data, "videos", dict, path).items()}

    def describe(record: VideoRecord) -> VideoRecord:
        if alike(record.video_id) not in videos:
            raise DataError(
                f"{path}: video {record.video_id} is not in it; add it, remove its folders, or meta.json"
            )
        return _described(record, videos[alike(record.video_id)], path)

    return describe


def _described(record: VideoRecord, entry: object, path: str) -> VideoRecord:
    where = f"{path}: video {record.video_id}"
    names = {alike(stem(os.path.basename(each))) for each in record.frame_paths or ()}
    categories = {}
    for key, described in field(entry, "objects", dict, where).items():
        if not re.fullmatch(r"[0-9]{1,9}", key) or not 0 < int(key) <= 65535:
            raise DataError(
                f"{where}: object {shown(key)} is no id; ids are numbers from 1 to 65535: correct meta.json"
            )
        categories[int(key)] = field(described, "category", str, f"{where}, object {key}")
        lost = [each for each in _frames(described, f"{where}, object {key}") if alike(each) not in names]
        if lost and names:
            raise DataError(
                f"{where}, object {key}: {len(lost)} of its frames are not in {record.source}: {some(lost)}; "
                "restore the frames, or correct meta.json"
            )
    if not categories:
        raise DataError(f"{where}: objects is empty; list the video's objects or remove its folder")
    if any(each.object_ids() is not None for each in record.annotations.values()):
        strange = set(record.object_ids or ()) - set(categories)
        if strange:
            raise DataError(
                f"{where}: object {min(strange)} has masks but is not listed; add it to meta.json"
            )
    ids = tuple(sorted(categories))
    return replace(record, object_ids=ids, object_names=categories, object_list=path)


def _frames(described: dict[str, Any], where: str) -> list[str]:
    """Return the names of the frames that an object is on, where the file says it."""
    frames = field(described, "frames", list, where) if "frames" in described else []
    wrong = next((each for each in frames if not isinstance(each, (str, int))), None)
    if wrong is not None:
        raise DataError(
            f"{where}: frames lists {shown(wrong)}; allowed are names of frames like 00005: correct meta.json"
        )
    return [str(each) for each in frames]
