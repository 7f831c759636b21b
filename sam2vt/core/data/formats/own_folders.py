"""Read frames and masks in folders with other names than DAVIS's: images/ with masks/, Frame/ with GT/ etc.

Either these two contain a folder (or a video file) per video, or they are a single clip, or each video has
its own two. The log says which folder was taken for which.
"""

from __future__ import annotations

import os
from functools import partial

from sam2vt.core.data.formats.coco_json import has_coco_json
from sam2vt.core.data.formats.layout import Found, Layout
from sam2vt.core.data.formats.listing import and_inner, some, subfolders
from sam2vt.core.data.formats.records import read_videos
from sam2vt.core.data.formats.tree import SPLITS, has_images, load_tree
from sam2vt.errors import DataError

_FRAMES = ("images", "image", "imgs", "img", "frames", "frame", "rgb", "jpegimages", "jpgs", "originals")
_MASKS = (
    *("masks", "mask", "gt", "gts", "ground_truth", "groundtruth", "labels", "label", "annotations"),
    *("segmentations", "segmentation", "seg", "annotation"),
)


def find_pair(path: str) -> tuple[str, str] | None:
    """Return the one folder of frames and the one folder of masks in a folder, by their names."""
    frames, masks = (
        [folder for name in names if _holds_images(folder := os.path.join(path, name))]
        for names in named_folders(path)
    )
    return (frames[0], masks[0]) if len(frames) == len(masks) == 1 else None


def named_folders(path: str) -> tuple[list[str], list[str]]:
    """Return the names of the folders of frames, and of masks, in a folder."""
    inner = subfolders(path)
    return [name for name in inner if name.lower() in _FRAMES], [
        name for name in inner if name.lower() in _MASKS
    ]


def _holds_images(folder: str) -> bool:
    """Return whether a folder, or one in it, has images; a folder of text or JSON holds no masks."""
    return any(map(has_images, and_inner(folder)))


def _recognise(path: str) -> Found | None:
    if has_coco_json(path):
        return None
    inner = [os.path.join(path, name) for name in subfolders(path)]
    pair = find_pair(path)
    if pair is not None:
        return _found(pair)
    pairs = {each: pair for each in inner if (pair := find_pair(each)) is not None}
    splits = [each for each in pairs if os.path.basename(each).lower() in SPLITS]
    if len(splits) > 1:
        raise DataError(
            f"{path}: holds several splits ({some(map(os.path.basename, splits))}); data_path must name one "
            f"of them, such as {splits[0]}"
        )
    if splits:
        return _found(pairs[splits[0]])
    # Each video has its own two; a folder that has not would be left out.
    if not pairs or len(pairs) < len(inner) or not all(has_images(frames) for frames, _ in pairs.values()):
        return None
    videos = [(os.path.basename(each), *pair) for each, pair in pairs.items()]
    frames, masks = next(iter(pairs.values()))
    names = (os.path.basename(frames), os.path.basename(masks))
    why = "each folder has {}, taken for frames, and {}, taken for their masks".format(*names)
    return Found("folders of frames and masks", why, partial(read_videos, videos), ("colours",))


def _found(pair: tuple[str, str]) -> Found:
    frames, masks = pair
    names = f"{os.path.basename(frames)} is taken for frames and {os.path.basename(masks)} for their masks"
    if has_images(frames):
        video = (os.path.basename(os.path.dirname(frames)), frames, masks)
        why = f"{names}, and images are in the former itself: they are the frames of one video"
        return Found("a single clip", why, partial(read_videos, [video]), ("colours",))
    return Found("a tree of frames and masks", names, partial(load_tree, *pair), ("colours",))


LAYOUT = Layout("folders such as images/ with masks/, frames/ with gt/", _recognise)
