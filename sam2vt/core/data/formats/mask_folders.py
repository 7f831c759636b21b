"""Read a folder of masks of one video: one label image per frame, or a subfolder of images per object."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

from sam2vt.core.data.formats.frame_order import frame_numbers, frame_order, last_value, numbered_frames
from sam2vt.core.data.formats.layout import check_object_id
from sam2vt.core.data.formats.listing import (
    IMAGE_EXTENSIONS,
    MASK_EXTENSIONS,
    alike,
    files_in,
    last_number,
    some,
    stem,
    subfolders,
)
from sam2vt.core.types import FrameAnnotation, LabelImage, ObjectImages
from sam2vt.errors import DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MaskFolder:
    """The masks of one video by the name of their frame, in natural order; at least one."""

    path: str
    by_name: Mapping[str, FrameAnnotation]
    object_ids: tuple[int, ...] | None  # None: only the images tell
    object_names: dict[int, str]  # of objects whose subfolder's name is not a number


def holds_masks(folder: str) -> bool:
    """Return whether a folder has mask images in it, or in its subfolders."""
    return bool(files_in(folder, MASK_EXTENSIONS) or _object_folders(folder))


def _object_folders(folder: str) -> list[str]:
    return [name for name in subfolders(folder) if files_in(os.path.join(folder, name), MASK_EXTENSIONS)]


def read_mask_folder(folder: str) -> MaskFolder:
    """List the masks in a folder without opening them. Raises DataError if there is none."""
    files = files_in(folder, MASK_EXTENSIONS)
    objects = _object_folders(folder)
    if files and objects:
        raise DataError(
            f"{folder}: holds both masks ({files[0]}, ...) and subfolders of masks ({some(objects)}); "
            "allowed is one label image per frame or one subfolder per object, not both",
            file=folder,
        )
    if files:
        labels = {name: LabelImage(path) for name, path in _by_stem(folder, files).items()}
        return MaskFolder(folder, labels, None, {})
    if objects:
        return _read_object_folders(folder, objects)
    images = files_in(folder, IMAGE_EXTENSIONS)
    hint = f"; it has images that lose ids ({some(images, 2)}): save masks as PNG" if images else ""
    raise DataError(
        f"{folder}: no mask is in it; a video needs at least one annotated frame. Allowed are "
        f"{', '.join(MASK_EXTENSIONS)} files named as their frames, or one such subfolder per object{hint}",
        file=folder,
    )


def _read_object_folders(folder: str, names: list[str]) -> MaskFolder:
    """List masks per object; folder names are ids if all are numbers, else objects count from 1."""
    # One name that is no number, and none of them is an id.
    numbered = all(name.isdecimal() for name in names)
    ids = list(range(1, len(names) + 1))
    if numbered:
        ids = [check_object_id(int(name), f"{folder}: a folder of masks is named") for name in names]
    if len(set(ids)) < len(ids):
        raise DataError(
            f"{folder}: two subfolders have the same number, so the same object id: {some(names)}",
            file=folder,
        )
    paths: dict[str, dict[int, str]] = {}
    for object_id, name in zip(ids, names):
        object_folder = os.path.join(folder, name)
        for frame, path in _by_stem(object_folder, files_in(object_folder, MASK_EXTENSIONS)).items():
            paths.setdefault(frame, {})[object_id] = path
    by_name = {frame: ObjectImages(each) for frame, each in paths.items()}
    return MaskFolder(folder, by_name, tuple(sorted(ids)), {} if numbered else dict(zip(ids, names)))


def _by_stem(folder: str, files: list[str]) -> dict[str, str]:
    paths: dict[str, str] = {}
    for name in files:
        frame = alike(stem(name))
        if frame in paths:
            raise DataError(f"{folder}: two masks are named {frame}; a frame has only one", file=folder)
        paths[frame] = os.path.join(folder, name)
    return paths


def match_frame_names(masks: MaskFolder, frame_names: list[str]) -> dict[int, FrameAnnotation]:
    """Return masks by frame index if frames have names: by the name without its extension.

    If no name fits at all, the last number in the names decides, provided that it is unique.
    """
    indices: dict[object, int] = {alike(name): index for index, name in enumerate(frame_names)}
    keys: dict[object, str] = {name: name for name in masks.by_name}
    # As frame_0007.jpg with mask_0007.png; one name that fits means that names count.
    if not indices.keys() & keys.keys():
        for number in (last_number, last_value):
            indices = {number(name): index for index, name in enumerate(frame_names)}
            keys = {number(name): name for name in masks.by_name}
            if len(indices) == len(frame_names) and len(keys) == len(masks.by_name) and None not in keys:
                break
        else:
            indices = {}
    lost = [name for key, name in keys.items() if key not in indices]
    if lost:
        raise DataError(
            f"{masks.path}: {len(lost)} of {len(masks.by_name)} masks belong to no frame: {some(lost)}; "
            f"masks are named as their frames, which are {some(frame_names, 3)}",
            file=masks.path,
        )
    return {indices[key]: masks.by_name[name] for key, name in keys.items()}


def match_frame_numbers(masks: MaskFolder, num_frames: int, video_path: str) -> dict[int, FrameAnnotation]:
    """Return masks by frame index if frames have no names, as in a video file.

    If there are as many masks as frames, they are paired in order. Otherwise the last number in a mask's name
    is that of its frame, as `numbered_frames` counts; numbers that begin at 1 and end elsewhere are refused.
    """
    names = list(masks.by_name)
    # Names may begin at 1, or be times: as many masks as frames leave no doubt.
    if len(names) == num_frames:
        order = frame_order(names, masks.path)
        return {index: masks.by_name[names[place]] for index, place in enumerate(order)}
    numbers = dict(zip(names, frame_numbers(names)))
    known = numbered_frames(list(numbers.values()), num_frames)
    if known is None:
        bad = [name for name, number in numbers.items() if number is None or number >= num_frames]
        what = f"named for no frame of it: {some(bad)}" if bad else "not told apart by their numbers"
        raise DataError(
            f"{masks.path}: {len(bad) or len(names)} of {len(names)} masks are {what}; {video_path} has "
            f"{num_frames} frames. Allowed are {num_frames} masks, one per frame, or masks whose number is "
            f"the frame's index, 0 to {num_frames - 1}",
            file=masks.path,
        )
    if min(known) == 1:
        raise DataError(
            f"{masks.path}: whether the numbers of its {len(names)} masks ({some(names, 3)}) count from 0 or "
            f"from 1 is not clear; {video_path} has {num_frames} frames. Allowed are numbers that begin at 0 "
            f"or end at {num_frames}: rename masks that count from 1, or extract the frames and name masks "
            "as them",
            file=masks.path,
        )
    if min(known) > 0:  # it might also be counted from 1
        log.info("%s: %s is frame %d of %s, counted from 0", masks.path, names[0], known[0], video_path)
    return {frame: masks.by_name[name] for frame, name in zip(known, names)}
