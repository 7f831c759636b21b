"""Read DAVIS, MOSE and YouTube-VOS: JPEGImages/<video>/* and Annotations/<video>/*.

Between them and the videos there may be a level of resolution (480p), around them train/ or valid/. Instead
of a folder of frames, JPEGImages may contain a video file, <video>.mp4. Annotations/<video> contains a label
image per frame, or a subfolder per object. Frames without a mask are not annotated. YouTube-VOS's meta.json,
beside JPEGImages, names the objects.

A single clip has no level of videos: JPEGImages/* and Annotations/*, named by the folder around them.
"""

from __future__ import annotations

import logging
import os
from functools import partial

from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions
from sam2vt.core.data.formats.listing import (
    IMAGE_EXTENSIONS,
    VIDEO_EXTENSIONS,
    alike,
    by_name,
    files_in,
    names_in,
    some,
    stem,
    subfolders,
)
from sam2vt.core.data.formats.records import read_videos
from sam2vt.core.data.formats.youtube_vos import read_meta
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

log = logging.getLogger(__name__)

FRAMES, MASKS = "JPEGImages", "Annotations"
_LISTS = "ImageSets"
SPLITS = ("train", "valid", "val", "test")


def lacks_masks(path: str) -> bool:
    """Return whether there are frames as in a tree, but no masks in their place."""
    return os.path.isdir(os.path.join(path, FRAMES)) and not os.path.isdir(os.path.join(path, MASKS))


def find_tree(path: str) -> tuple[str, str] | None:
    """Return the folders of frames and of masks: in `path`, in its only split, or `path` is one of the
    former.
    """
    above, name = os.path.split(path)
    if name == FRAMES and os.path.isdir(os.path.join(above, MASKS)):
        return path, os.path.join(above, MASKS)
    if os.path.basename(above) == FRAMES and os.path.isdir(path):  # no file of a video
        return _level(path, os.path.join(os.path.dirname(above), MASKS))
    if _is_tree(path):
        return os.path.join(path, FRAMES), os.path.join(path, MASKS)
    splits = [name for name in SPLITS if _is_tree(os.path.join(path, name))]
    if len(splits) > 1:
        raise DataError(
            f"{path}: holds several splits ({', '.join(splits)}); data_path must name one of them, such as "
            f"{os.path.join(path, splits[0])}"
        )
    return find_tree(os.path.join(path, splits[0])) if splits else None


def load_tree(frame_root: str, mask_root: str, options: ReadOptions) -> list[VideoRecord]:
    """Return a record of every video. DataError if frames or masks of a video are missing."""
    above = os.path.dirname(frame_root)
    top = above if os.path.basename(above) == FRAMES else frame_root  # without a level such as 480p
    frame_root, mask_root = _choose_level(frame_root, mask_root)
    sources = _sources(frame_root)
    masks = by_name(mask_root, subfolders(mask_root))
    if not sources:
        raise DataError(f"{frame_root}: the folder is empty; it must hold a folder of frames for each video")
    what = f"of {len(sources)} videos have frames but no folder of masks"
    lonely = [name for name in sources if name not in masks]
    options.lonely(lonely, mask_root, what, "add their masks or remove their frames")
    lonely = [name for name in masks if name not in sources]
    what = "videos have masks but no frames"
    options.lonely(lonely, frame_root, what, "add their frames or remove their masks")
    describe = read_meta(os.path.dirname(top))
    _note_lists(os.path.join(os.path.dirname(top), _LISTS), len(sources), options)
    videos = [(name, source, masks[name]) for name, source in sources.items() if name in masks]
    return read_videos(videos, options, describe)


def _note_lists(folder: str, num_videos: int, options: ReadOptions) -> None:
    """Note the lists of DAVIS, which tell which videos to train on."""
    lists = [
        os.path.join(inner, name)
        for inner in ("", *subfolders(folder))
        for name in files_in(os.path.join(folder, inner), (".txt",))
    ]
    if lists:
        options.note(
            f"{folder}: the lists {some(lists)} are not read; all {num_videos} videos are taken, those to "
            "test on, too: to leave some out, move their folders elsewhere"
        )


def _is_tree(path: str) -> bool:
    frames, masks = (os.path.join(path, each) for each in (FRAMES, MASKS))
    if not (os.path.isdir(frames) and os.path.isdir(masks)):
        return False
    # COCO and Pascal VOC have a folder of that name, too.
    names = names_in(masks)
    return not names or not all(each.lower().endswith((".json", ".xml")) for each in names)


def _sources(frame_root: str) -> dict[str, str]:
    """Return video -> its folder of frames or its file; the folder where it has both."""
    sources = {}
    for name in files_in(frame_root, VIDEO_EXTENSIONS):
        video = alike(stem(name))
        if video in sources:
            raise DataError(f"{frame_root}: two files are the video {stem(name)}; remove or rename one")
        sources[video] = os.path.join(frame_root, name)
    for name, folder in by_name(frame_root, subfolders(frame_root)).items():
        # Frames were extracted from the file; images seek faster.
        if name in sources:
            log.info("video %s: its frames are read from %s/, not from %s", name, name, sources[name])
        sources[name] = folder
    return dict(sorted(sources.items()))


def _choose_level(frame_root: str, mask_root: str) -> tuple[str, str]:
    """Go down a level of resolution, where there is one."""
    names = subfolders(frame_root)
    inner = {name: os.path.join(frame_root, name) for name in names}
    # A folder of folders without images of its own is a level, not a video.
    levels = [name for name in names if subfolders(inner[name]) and not has_images(inner[name])]
    if not levels:
        return frame_root, mask_root
    annotated = [name for name in levels if os.path.isdir(os.path.join(mask_root, name))] or levels
    if len(annotated) > 1 or len(levels) < len(names):
        raise DataError(
            f"{frame_root}: holds several levels of resolution, or levels beside videos ({some(names)}); "
            f"data_path must name one, such as {inner[annotated[0]]}"
        )
    return _level(inner[annotated[0]], mask_root)


def _level(frame_root: str, mask_root: str) -> tuple[str, str]:
    """Return a level's frames with its masks, which may have no such level."""
    masks = os.path.join(mask_root, os.path.basename(frame_root))
    return frame_root, masks if os.path.isdir(masks) else mask_root


def has_images(folder: str) -> bool:
    """Return whether a folder directly contains images."""
    return bool(files_in(folder, IMAGE_EXTENSIONS))


def _recognise(path: str) -> Found | None:
    roots = find_tree(path)
    if roots is None or has_images(roots[0]):
        return None
    why = f"{roots[0]} and {roots[1]} hold a folder per video"
    return Found("a tree of frames and masks", why, partial(load_tree, *roots), ("colours",))


def _recognise_clip(path: str) -> Found | None:
    roots = find_tree(path)
    if roots is None or not has_images(roots[0]):
        return None
    above, name = os.path.split(roots[0])
    # One video of a tree has a name of its own; what is called JPEGImages has that of the folder around it.
    videos = [(name if name != FRAMES else os.path.basename(above), *roots)]
    why = f"images are in {roots[0]} itself"
    return Found("a single clip", why, partial(read_videos, videos), ("colours",))


LAYOUT = Layout(
    "JPEGImages/<video>/*.jpg with Annotations/<video>/*.png (also under train/ or valid/, with a level such "
    "as 480p, a subfolder per object, or <video>.mp4 in JPEGImages/)",
    _recognise,
)
SINGLE_CLIP = Layout("a single clip: JPEGImages/*.jpg with Annotations/*.png", _recognise_clip)
