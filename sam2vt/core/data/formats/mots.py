"""Read MOTS PNG: instances/<sequence>/*.png of 16 bit, with values class * 1000 + instance.

Frames are in images/<sequence>/ beside instances/, or in KITTI's training/image_02/<sequence>/; with a single
sequence, as CVAT exports it, both folders contain the files directly. An object's id is its pixel value;
10000 is void. instances/labels.txt names the classes, line by line from class 1; without it they are car and
pedestrian.
"""

from __future__ import annotations

import os
from functools import partial

from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions
from sam2vt.core.data.formats.listing import IMAGE_EXTENSIONS, by_name, files_in, subfolders, text_lines
from sam2vt.core.data.formats.records import read_videos, with_coding
from sam2vt.core.data.formats.tree import FRAMES
from sam2vt.core.data.masks.codings import MOTS_CLASSES
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

_MASKS = "instances"
FRAME_FOLDERS = ("images", os.path.join("training", "image_02"), "image_02")
_LABELS = "labels.txt"


def load_mots(frame_root: str, mask_root: str, options: ReadOptions) -> list[VideoRecord]:
    """Return a record of every sequence. Raises DataError if frames or masks of a sequence are missing."""
    describe = partial(with_coding, coding="mots", classes=read_classes(os.path.join(mask_root, _LABELS)))
    # A single sequence without the level of sequences.
    if files_in(mask_root, (".png",)):
        video = (os.path.basename(os.path.dirname(mask_root)), frame_root, mask_root)
        return read_videos([video], options, describe)
    frames, masks = (by_name(root, subfolders(root)) for root in (frame_root, mask_root))
    sides = f"frames in {frame_root} and masks in {mask_root}"
    needs = f"a sequence needs {sides}: add them, or remove the sequence"
    for has, lacks, root in ((frames, masks, mask_root), (masks, frames, frame_root)):
        lonely = [name for name in has if name not in lacks]
        options.lonely(lonely, root, f"of {len(has)} sequences have no folder here", needs)
    if not masks:
        raise DataError(
            f"{mask_root}: the folder is empty; it must hold 16 bit PNGs, or a folder per sequence"
        )
    videos = [(name, frames[name], folder) for name, folder in masks.items() if name in frames]
    return read_videos(videos, options, describe)


def read_classes(path: str) -> dict[int, str]:
    """Return class number -> name."""
    if not os.path.isfile(path):
        return dict(MOTS_CLASSES)
    names = [name for _, name in text_lines(path, "write one class name per line")]
    if not names or len(set(names)) < len(names):
        what = "names a class twice" if names else "is empty"
        raise DataError(f"{path}: {what}; it must name each class once, one per line, from class 1 on")
    return dict(enumerate(names, start=1))


def _recognise(path: str) -> Found | None:
    above = os.path.dirname(path) if os.path.basename(path) in (_MASKS, "images") else path
    masks = os.path.join(above, _MASKS)
    if not os.path.isdir(masks) or os.path.isdir(os.path.join(above, FRAMES)):  # the latter is a tree's
        return None
    # KITTI keeps its frames in training/image_02.
    frames = [os.path.join(above, name) for name in FRAME_FOLDERS if os.path.isdir(os.path.join(above, name))]
    if not frames:
        raise DataError(
            f"{above}: has MOTS masks in {_MASKS}, but none of {', '.join(FRAME_FOLDERS)} with their "
            f"frames; put the frames into {os.path.join(above, FRAME_FOLDERS[0])}, in folders named as "
            "those of the masks"
        )
    if files_in(masks, (".png",)) and not files_in(frames[0], IMAGE_EXTENSIONS):
        raise DataError(
            f"{masks}: the masks are in it itself, but {frames[0]} has no images itself; both must be of one "
            "sequence, or both hold a folder per sequence: move the files"
        )
    why = f"{masks} holds masks and {frames[0]} frames"
    return Found("MOTS PNG", why, partial(load_mots, frames[0], masks))


LAYOUT = Layout("MOTS PNG: instances/<sequence>/*.png with images/<sequence>/*.jpg", _recognise)
