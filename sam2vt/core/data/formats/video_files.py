"""Read video files beside folders of masks.

The masks of a file are in a folder of its name, beside it or in Annotations/ or masks/. The name of the
folder may also be the beginning of the file's name (clip/ for clip_orig.mp4). A single file with a single
folder of masks needs no common name. Files may be in videos/.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from functools import partial

from sam2vt.core.data.formats.coco_json import find_json
from sam2vt.core.data.formats.layout import Found, Layout, ReadOptions, only
from sam2vt.core.data.formats.listing import VIDEO_EXTENSIONS, alike, files_in, some, stem, subfolders
from sam2vt.core.data.formats.mask_folders import holds_masks
from sam2vt.core.data.formats.records import read_videos
from sam2vt.core.types import VideoRecord

_VIDEO_FOLDERS = ("videos", "Videos")
_MASK_FOLDERS = ("Annotations", "annotations", "masks", "Masks", "")
_SEPARATORS = "_-. "


def find_video_files(path: str) -> list[str]:
    """Return the paths of the video files of a dataset folder, or the one that `path` itself is."""
    if os.path.isfile(path):
        return [path] if path.lower().endswith(VIDEO_EXTENSIONS) else []
    folders = [path, *(os.path.join(path, name) for name in _VIDEO_FOLDERS)]
    return [os.path.join(folder, name) for folder in folders for name in files_in(folder, VIDEO_EXTENSIONS)]


def load_video_files(path: str, videos: list[str], options: ReadOptions) -> list[VideoRecord]:
    """Return a record of every file. DataError for a file without masks, or masks without a file."""
    root = os.path.dirname(path) if os.path.isfile(path) else path
    folders = find_mask_folders(root)
    pairs = _pair(root, videos, folders, options)
    used = set(pairs.values())
    unused = [folder for folder in folders if folder not in used]
    if path == root:
        options.lonely(
            [os.path.relpath(folder, root) for folder in unused],
            root,
            "folders of masks belong to no video file",
            "name them as their videos, add the videos or remove the masks",
            video=None,
            file=only(unused) or root,
        )
    alone = _unshared(pairs, options).items()
    return read_videos([(_video_id(video), video, masks) for video, masks in alone], options)


def _video_id(video: str) -> str:
    return stem(os.path.basename(video))


def _pair(root: str, videos: list[str], folders: list[str], options: ReadOptions) -> dict[str, str]:
    """Return each file with its masks; a fault for those without."""
    named = _named(folders)
    found = {video: folder for video in videos if (folder := _find_masks(video, named)) is not None}
    # As exports of a single video: no names are needed to tell who belongs to whom.
    if not found and len(videos) == len(folders) == 1:
        return {videos[0]: folders[0]}
    lonely = [video for video in videos if video not in found]
    got = some(os.path.relpath(folder, root) for folder in folders) or "no folder of masks"
    if xml := files_in(root, [".xml"]):
        got += f"; {some(xml, 2)}: CVAT's XML is read as annotations.xml in a folder with its video"
    options.lonely(
        [os.path.basename(video) for video in lonely],
        root,
        f"of {len(videos)} video files have no folder of masks",
        f"looked for a folder of the file's name in {root}, Annotations/ and masks/, found {got}",
        video=only([_video_id(video) for video in lonely]),
        file=only(lonely) or root,
    )
    return found


def _unshared(pairs: dict[str, str], options: ReadOptions) -> dict[str, str]:
    """Return the pairs without files that share their masks, which is a fault."""
    uses = Counter(pairs.values())
    for folder in (folder for folder, count in uses.items() if count > 1):
        names = [os.path.basename(video) for video, masks in pairs.items() if masks == folder]
        options.fault(
            f"{folder}: several video files share this folder of masks: {some(names)}; name each "
            "folder of masks as its video",
            file=folder,
        )
    return {video: folder for video, folder in pairs.items() if uses[folder] == 1}


def find_mask_folders(root: str) -> list[str]:
    """Return the folders that contain the masks of one video."""
    found: dict[str, None] = {}
    for name in _MASK_FOLDERS:
        above = os.path.join(root, name) if name else root
        inner = [os.path.join(above, each) for each in subfolders(above)]
        inner = [each for each in inner if each not in found and os.path.basename(each) not in _MASK_FOLDERS]
        holding = [folder for folder in inner if holds_masks(folder)]
        # Masks of a single video may be in Annotations/ itself.
        found |= dict.fromkeys([above] if name and not holding and holds_masks(above) else holding)
    # On file systems that ignore case, masks/ and Masks/ are one folder.
    return list({os.path.realpath(folder): folder for folder in found}.values())


def _named(folders: list[str]) -> dict[str, str]:
    return {alike(os.path.basename(folder)): folder for folder in folders}


def _find_masks(video: str, named: Mapping[str, str]) -> str | None:
    """Return the folder of a video's name, else the one of the longest name that the video's begins with."""
    name = alike(stem(os.path.basename(video)))
    # From the longest: clip_a_orig.mp4 belongs to clip_a, not to clip.
    begins = [name[:end] for end in range(len(name) - 1, 0, -1) if name[end] in _SEPARATORS]
    wanted = [name, f"{name}_masks", f"{name}_mask", *begins]
    return next((named[each] for each in wanted if each in named), None)


def _recognise(path: str) -> Found | None:
    videos = find_video_files(path)
    if not videos or (not find_mask_folders(path) and find_json(path) is not None):
        return None
    why = f"it has {some((os.path.basename(each) for each in videos), 3)}"
    load = partial(load_video_files, path, videos)
    # Looking for masks takes a look into every folder, which only some callers need.
    has_masks = partial(_have_masks, path, videos)
    return Found("video files with folders of masks", why, load, ("colours",), has_masks)


def _have_masks(path: str, videos: list[str]) -> bool:
    """Return whether there are masks of any of the files, by their names or in a folder for masks."""
    root = os.path.dirname(path) if os.path.isfile(path) else path
    folders = find_mask_folders(root)
    named = _named(folders)
    if any(_find_masks(video, named) for video in videos):
        return True
    above = [os.path.relpath(folder, root).split(os.sep)[0] for folder in folders]
    return len(videos) == len(folders) == 1 and path == root and above[0] in _MASK_FOLDERS


LAYOUT = Layout(
    "video files (mp4, mov, mkv, webm, avi, ...) beside folders of masks of their names", _recognise
)
