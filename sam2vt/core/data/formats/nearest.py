"""Name the layout nearest to a folder, and what to rename, move or choose."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import permutations

from sam2vt.core.data.formats import own_folders, tree
from sam2vt.core.data.formats.layout import Found
from sam2vt.core.data.formats.listing import (
    IMAGE_EXTENSIONS,
    MASK_EXTENSIONS,
    OTHER_VIDEO_EXTENSIONS,
    VIDEO_EXTENSIONS,
    and_inner,
    names_in,
    some,
    stem,
    subfolders,
)
from sam2vt.errors import DataError

_MOST_FOLDERS = 12  # that are looked into
_SMALLEST = "JPEGImages/<video>/00000.jpg with label images in Annotations/<video>/00000.png"


def nearest(path: str, recognise: Callable[[str], Found | None]) -> str:
    """Return a sentence on the nearest layout; `recognise` is that of "auto"."""
    if not os.path.isdir(path):
        return (
            "A file that is a dataset is a JSON (COCO, YouTube-VIS, BURST), a video with its masks in a "
            "folder of its name beside it, a record table or a CVAT annotations.xml: set data_path to such "
            "a file, or to the dataset's folder"
        )
    if voc := next(_pascal_voc(path), None):
        return voc
    if tree.lacks_masks(path):
        return f"Nearest is a tree: frames in {tree.FRAMES}, but no masks, since there is no {tree.MASKS}"
    hints = (
        _recognised(path, recognise),
        _own_folders(path),
        _labelme(path),
        _halves(path),
        _by_ending(path),
    )
    return next(
        (text for found in hints for text in found),
        f"The simplest layout is {_SMALLEST}; others are a video file (mp4, ...) with a folder of masks "
        "beside it, and a COCO video JSON",
    )


def _pascal_voc(path: str) -> Iterator[str]:
    """Yield what Pascal VOC's folders of masks lack."""
    names = {name for folder in and_inner(path) for name in subfolders(folder)}
    objects = "SegmentationObject" in names
    if objects or "SegmentationClass" in names:
        yield (
            "Nearest is Pascal VOC, which does not say which object is which on other frames. For one object "
            "per class, write labelmap.txt beside SegmentationClass, a line such as cat:128,0,0:: per class, "
            "and set dataset.identity=category (--identity category). Where a value is one object on all "
            f"frames, rename Segmentation{'Object' if objects else 'Class'} to {tree.MASKS}"
        )


def _recognised(path: str, recognise: Callable[[str], Found | None]) -> Iterator[str]:
    """Yield what auto would read: the folder itself, or some in it."""
    own = _quietly(recognise, path)
    if own is not None:
        yield f"It is {own.what}, because {own.why}: set dataset.dataset_type=auto (--dataset-type auto)"
        return
    inner = [os.path.join(path, name) for name in subfolders(path)[:_MOST_FOLDERS]]
    found = {each: layout for each in inner if (layout := _quietly(recognise, each)) is not None}
    if found:
        first, layout = next(iter(found.items()))
        several = "" if len(found) == 1 else ", or list several in dataset.datasets"
        yield (
            f"{some(map(os.path.basename, found))} in it can be read, {os.path.basename(first)} as "
            f"{layout.what}: set data_path to {first}{several}"
        )


def _quietly(recognise: Callable[[str], Found | None], path: str) -> Found | None:
    try:
        return recognise(path)
    except DataError:
        return None


def _own_folders(path: str) -> Iterator[str]:
    """Yield why folders of frames and of masks, by their names, are not read: splits in them, or several."""
    frames, masks = own_folders.named_folders(path)
    if not frames or not masks:
        return
    one, other = frames[0], masks[0]
    inner = [set(subfolders(os.path.join(path, each))) for each in (one, other)]
    splits = [each for each in tree.SPLITS if all(each in names for names in inner)]
    if len(frames) == len(masks) == 1 and splits:
        first = splits[0]
        yield (
            f"{one} and {other} hold the splits {some(splits)}: move {one}/{first} to {first}/{one} and "
            f"{other}/{first} to {first}/{other}, and set data_path to {os.path.join(path, first)}"
        )
    elif len(frames) > 1 or len(masks) > 1:
        yield (
            f"By their names, frames may be in {some(frames)} and masks in {some(masks)}: which are meant is "
            f"not clear; leave one folder of each, or rename the two to {tree.FRAMES} and {tree.MASKS}"
        )


def _labelme(path: str) -> Iterator[str]:
    """Yield which folder has a JSON per frame of another one."""
    names = {each: names_in(os.path.join(path, each)) for each in subfolders(path)[:_MOST_FOLDERS]}
    for jsons, frames in permutations(names, 2):
        found = {stem(name) for name in names[jsons] if name.endswith(".json")}
        images = {stem(name) for name in names[frames] if name.lower().endswith(IMAGE_EXTENSIONS)}
        if found and 2 * len(found & images) > len(found):
            yield (
                f"Nearest is LabelMe: {jsons} has JSON files with the names of images in {frames}. Move them "
                f"to {frames}: a JSON of LabelMe is beside its frame"
            )
            return


def _halves(path: str) -> Iterator[str]:
    """Yield which two folders hold the same names, as frames and their masks do, or that one is alone."""
    names = {each: _stems(os.path.join(path, each)) for each in subfolders(path)[:_MOST_FOLDERS]}
    names = {each: found for each, found in names.items() if found}
    for frames, masks in permutations(names, 2):
        shared = len(names[frames] & names[masks])
        if _are_masks(os.path.join(path, masks)) and 2 * shared > len(names[masks]):
            yield (
                f"Nearest is a tree of frames and masks: {shared} names are the same in {frames} and "
                f"{masks}. If {frames} has the frames and {masks} the masks, rename them to {tree.FRAMES} "
                f"and {tree.MASKS}"
            )
            return
    if names:
        yield (
            f"{some(names)} holds images, but nothing tells which are masks: put the frames of each video "
            f"into {tree.FRAMES}/<video>/ and its masks, of the same names, into {tree.MASKS}/<video>/"
        )


def _stems(folder: str) -> set[str]:
    """Return the names of the videos in a folder of folders of images, or of its own images."""
    own = {stem(name) for name in names_in(folder) if name.lower().endswith(IMAGE_EXTENSIONS)}
    return own or {name for name in subfolders(folder) if _images(os.path.join(folder, name))}


def _images(folder: str) -> list[str]:
    return [name for name in names_in(folder) if name.lower().endswith(IMAGE_EXTENSIONS)]


def _are_masks(folder: str) -> bool:
    images = _images(folder) or next(
        (found for name in subfolders(folder) if (found := _images(os.path.join(folder, name)))), []
    )
    return bool(images) and images[0].lower().endswith(MASK_EXTENSIONS)


def _by_ending(path: str) -> Iterator[str]:
    """Yield what the files' endings tell, here and in the folders below."""
    folders = [path, *(os.path.join(path, name) for name in subfolders(path)[:_MOST_FOLDERS])]
    names = [name for folder in folders for name in names_in(folder)]

    def having(*endings: str) -> list[str]:
        return [name for name in names if name.lower().endswith(endings)]

    if others := having(*OTHER_VIDEO_EXTENSIONS):
        endings = ", ".join(VIDEO_EXTENSIONS)
        yield f"No video by its ending is {some(others, 2)}; read are {endings}: convert it with ffmpeg"
    if having(*IMAGE_EXTENSIONS) and (found := having(".txt")):
        yield (
            f"{some(found, 2)} may be YOLO's text, which does not say which object is which: export the "
            "annotation as a COCO JSON with track ids, or as label images"
        )
    if found := having(".xml"):
        yield f"{some(found, 2)} is no annotations.xml of CVAT for video: export as CVAT for video 1.1"
    if found := having(*VIDEO_EXTENSIONS):
        yield f"Nearest are video files: {some(found, 2)} needs its masks in a folder of its name beside it"
    if found := having(*IMAGE_EXTENSIONS):
        yield (
            f"It has images such as {found[0]}, but no masks: a mask is named as its frame, in a folder of "
            f"its own ({_SMALLEST}) or with _mask added"
        )
