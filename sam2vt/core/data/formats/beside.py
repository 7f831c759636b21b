"""Read masks beside their frames, in a folder per video: frame_0.png with frame_0_mask.png.

A mask has the name of its frame with an ending such as _mask, _gt or _label. Other pictures of a frame, such
as frame_0_color_mask.png, are left out, and a note says how many.
"""

from __future__ import annotations

import os
import re
from functools import partial

from sam2vt.core.data.formats.coco_json import has_coco_json
from sam2vt.core.data.formats.frame_order import frame_order
from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions
from sam2vt.core.data.formats.listing import (
    IMAGE_EXTENSIONS,
    MASK_EXTENSIONS,
    files_in,
    some,
    stem,
    subfolders,
)
from sam2vt.core.data.formats.records import coloured, first_size, image_record
from sam2vt.core.types import LabelImage, VideoRecord
from sam2vt.errors import DataError

_MASK = re.compile(r"(.+)[_. -](masks?|gt|labels?|seg|segmentation|annotation)", re.IGNORECASE)
_LEVELS = 2  # below the dataset's folder


def load_beside(root: str, folders: list[str], options: ReadOptions) -> list[VideoRecord]:
    """Return a record of each folder. Raises DataError if the order of its frames is not clear."""
    return options.records(
        lambda folder: coloured(_record(root, folder, options), options),
        folders,
        lambda folder: {"video": _video_id(root, folder), "file": folder},
    )


def _video_id(root: str, folder: str) -> str:
    return os.path.basename(root) if folder == root else os.path.relpath(folder, root).replace(os.sep, "/")


def _record(root: str, folder: str, options: ReadOptions) -> VideoRecord:
    frames, masks, others = _sort(folder)
    stems = list(frames)
    order = [stems[place] for place in frame_order(stems, folder)]
    if others:
        options.note(
            f"{folder}: {len(others)} images are no frame and no mask of one: {some(others, 3)}; left out"
        )
    paths = [os.path.join(folder, frames[each]) for each in order]
    known = {place: masks[each] for place, each in enumerate(order) if each in masks}
    annotations = {place: LabelImage(os.path.join(folder, name)) for place, name in known.items()}
    return image_record(_video_id(root, folder), paths, first_size(paths), annotations, folder)


def _sort(folder: str) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Return the frames of a folder and their masks, each by the frame's name, and what is neither."""
    named: dict[str, list[str]] = {}
    for name in files_in(folder, IMAGE_EXTENSIONS):
        named.setdefault(stem(name), []).append(name)
    twice = next((names for names in named.values() if len(names) > 1), None)
    if twice is not None:
        raise DataError(
            f"{folder}: two images have one name: {some(twice)}; remove or rename one", file=folder
        )
    of = {each: match[1] for each in named if (match := _MASK.fullmatch(each))}
    frames = {each: names[0] for each, names in named.items() if each not in of}
    masks: dict[str, str] = {}
    others = []
    for each, frame in of.items():
        name = named[each][0]
        if frame not in frames or not name.lower().endswith(MASK_EXTENSIONS):
            others.append(name)
        elif masks.setdefault(frame, name) != name:
            raise DataError(
                f"{folder}: {masks[frame]} and {name} are both named as masks of {frames[frame]}; remove one",
                file=folder,
            )
    return frames, masks, others


def _recognise(path: str) -> Found | None:
    folders = None if has_coco_json(path) else _with_images(path, _LEVELS)
    # One folder without masks would be left out, without a word.
    if not folders or not all(_sort(each)[1] for each in folders):
        return None
    frames, masks, _ = _sort(folders[0])
    frame = next(each for each in frames if each in masks)
    why = f"{masks[frame]} is beside {frames[frame]}"
    load = partial(load_beside, path, folders)
    return Found("masks beside their frames", why, load, ("colours",))


def _with_images(folder: str, levels: int) -> list[str] | None:
    """Return the folders that have images; None where some may be deeper than `levels`."""
    own = [folder] if files_in(folder, IMAGE_EXTENSIONS) else []
    inner = subfolders(folder)
    if inner and not levels:
        return None
    below = [_with_images(os.path.join(folder, name), levels - 1) for name in inner]
    return None if None in below else own + [each for found in below for each in found or ()]


LAYOUT = Layout("masks beside their frames: <video>/frame_0.png with <video>/frame_0_mask.png", _recognise)
