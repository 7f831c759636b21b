"""Read CVAT's Segmentation mask 1.1 (Pascal VOC): SegmentationClass/, labelmap.txt, JPEGImages/.

It has no track ids: the colours of SegmentationObject/ start again on every frame. With identity=category
each label is one object.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import partial

from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions
from sam2vt.core.data.formats.listing import text_lines
from sam2vt.core.data.formats.records import read_videos
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

_MASKS, _MAP = "SegmentationClass", "labelmap.txt"
_FRAMES = ("JPEGImages", "images")
_LABEL = re.compile(r"([^:#]+):(\d{1,3}),(\d{1,3}),(\d{1,3})(:.*)?", re.ASCII)


def load_cvat_masks(root: str, options: ReadOptions) -> list[VideoRecord]:
    """Return the record of the task. Raises DataError without identity=category, and for a bad label map."""
    if options.identity != "category":
        raise DataError(
            f"{root}: CVAT's Segmentation mask 1.1 does not say which object is which from frame to frame. "
            "Choose dataset.identity=category (--identity category: one object per label), or export the "
            "task as CVAT for video 1.1, MOTS PNG 1.0 or COCO 1.0"
        )
    frames = next((each for name in _FRAMES if os.path.isdir(each := os.path.join(root, name))), None)
    if frames is None:
        raise DataError(
            f"{root}: has masks, but no frames in {' or '.join(_FRAMES)}; export the task with its images"
        )
    colours = read_label_map(os.path.join(root, _MAP))
    video = (os.path.basename(root), frames, os.path.join(root, _MASKS))
    return read_videos([video], replace(options, colours=colours))


def read_label_map(path: str) -> dict[str, tuple[int, int, int]]:
    """Return label -> colour. Raises DataError naming the line."""
    colours: dict[str, tuple[int, int, int]] = {}
    for place, line in text_lines(path, "export the task again"):
        match = _LABEL.fullmatch(line)
        if match and max(map(int, match.group(2, 3, 4))) > 255:
            match = None
        if match is None and not line.startswith("#"):
            raise DataError(
                f"{path}: line {place} is {line[:60]!r}; a line is a label and its colour, such as "
                "cat:128,0,0::"
            )
        if match is not None:
            colours[match[1].strip()] = (int(match[2]), int(match[3]), int(match[4]))
    if len(set(colours.values())) < len(colours) or not set(colours) - {"background", "void"}:
        raise DataError(
            f"{path}: labels share a colour, or there is none; give each label a colour of its own"
        )
    return colours


def _recognise(path: str) -> Found | None:
    if not (os.path.isdir(os.path.join(path, _MASKS)) and os.path.isfile(os.path.join(path, _MAP))):
        return None
    why = f"it has {_MASKS} and {_MAP}"
    return Found("CVAT segmentation masks", why, partial(load_cvat_masks, path), ("identity",))


LAYOUT = Layout(f"CVAT's Segmentation mask 1.1: {_MASKS}/ with {_MAP} and JPEGImages/", _recognise)
