"""Find videos by the names of files and folders, local or at a URI, without opening them."""

from __future__ import annotations

import fnmatch
import glob
import logging
import os
from collections.abc import Iterable
from typing import NamedTuple

from sam2vt.core.data.formats.listing import (
    IMAGE_EXTENSIONS,
    OTHER_VIDEO_EXTENSIONS,
    VIDEO_EXTENSIONS,
    check_text,
    files_in,
    natural_key,
    some,
    stem,
    subfolders,
)
from sam2vt.core.data.formats.records import in_order
from sam2vt.core.data.formats.tree import FRAMES, MASKS
from sam2vt.core.storage.folder import IS_FOLDER, Folder
from sam2vt.errors import DataError

log = logging.getLogger(__name__)

_LEVELS = 3  # of folders below the one that is named
_PATTERN = ("*", "?", "[")


class Media(NamedTuple):
    """A file with a video or a single frame, or the frames of a folder in order."""

    folder: str
    names: list[str]
    is_file: bool

    @property
    def path(self) -> str:
        """Path of the file, or of the folder of frames."""
        return os.path.join(self.folder, self.names[0]) if self.is_file else self.folder

    @property
    def name(self) -> str:
        """Name of the video: that of the file without its ending, or that of the folder."""
        name = os.path.basename(self.path)
        return stem(name) if self.is_file else name

    @property
    def has_images(self) -> bool:
        """Whether its frames are images."""
        return not self.is_file or self.names[0].lower().endswith(IMAGE_EXTENSIONS)

    @property
    def is_remote(self) -> bool:
        """Whether it has to be downloaded."""
        return "://" in self.folder


class _Listing(NamedTuple):
    images: list[str]
    videos: list[str]
    folders: list[str]
    others: list[str]  # videos by their names that are not read


def is_pattern(path: str) -> bool:
    """Return whether a path has a wildcard; in a URI, ? begins the query instead."""
    return any(each in path for each in (_PATTERN[::2] if "://" in path else _PATTERN))


def find_media(path: str) -> list[Media]:
    """Return the videos at an absolute path or a URI: a file, a folder of frames, or folders of them.

    Raises DataError for a folder whose content is ambiguous, and for frames without a clear order.
    """
    folder, name = os.path.split(path.rstrip("/"))
    # A file that is named may have any ending; behind a URI the ending tells that it is one.
    is_file = name.lower().endswith((*VIDEO_EXTENSIONS, *IMAGE_EXTENSIONS))
    if is_file if "://" in path else os.path.isfile(path):
        return [Media(folder, [name], True)]
    return _in_folder(path.rstrip("/") or path, _LEVELS)


def match_media(pattern: str) -> list[Media]:
    """Return the videos that a pattern matches; images of one folder are the frames of one video."""
    folder, name = os.path.split(pattern)
    if "://" in pattern:
        if is_pattern(folder):
            raise DataError(f"{pattern}: allowed are wildcards in the last part of a URI, such as {folder}/*")
        listing = _list(folder)
        names = {each: fnmatch.filter(getattr(listing, each), name) for each in listing._fields}
        files, folders = names["images"] + names["videos"], names["folders"]
        return _of_paths([f"{folder}/{each}" for each in files], [f"{folder}/{each}" for each in folders])
    matched = sorted(glob.glob(pattern, recursive=True), key=natural_key)
    if not matched:
        raise DataError(f"SOURCE {pattern} matches nothing; check the pattern, and that the shell leaves it")
    folders = [check_text(each) for each in matched if os.path.isdir(each)]
    files = [check_text(each) for each in matched if not os.path.isdir(each)]
    return _of_paths(files, folders)


def _of_paths(files: Iterable[str], folders: Iterable[str]) -> list[Media]:
    """Return the videos of matched files and folders, each once."""
    frames: dict[str, list[str]] = {}
    found: dict[str, Media] = {}
    left_out = []
    for path in files:
        folder, name = os.path.split(path)
        if name.lower().endswith(IMAGE_EXTENSIONS):
            frames.setdefault(folder, []).append(name)
        elif name.lower().endswith(VIDEO_EXTENSIONS):
            found[path] = Media(folder, [name], True)
        else:
            left_out.append(path)
    found |= {folder: Media(folder, in_order(names, folder), False) for folder, names in frames.items()}
    for path in folders:
        found |= {each.path: each for each in _in_folder(path, _LEVELS) if each.path not in found}
    _note(left_out, "are neither videos nor images by their names")
    return list(found.values())


def _in_folder(folder: str, levels: int, seen: frozenset[str] = frozenset()) -> list[Media]:
    """Return the videos of a folder and of those below it."""
    seen |= {os.path.realpath(folder)}
    listing = _list(folder)
    if {FRAMES, MASKS} <= set(listing.folders) and "://" in folder:
        raise DataError(
            f"{folder}: holds a dataset ({FRAMES} and {MASKS}), and datasets other than packs are not read "
            f"from a URI: pack it, copy it to this machine, or name {folder}/{FRAMES} for its frames alone"
        )
    found = [Media(folder, [name], True) for name in listing.videos]
    below = [os.path.join(folder, name) for name in listing.folders]
    if levels:
        # A link to a folder above it would be followed round and round.
        inner = [each for each in below if os.path.realpath(each) not in seen]
        found += [each for path in inner for each in _in_folder(path, levels - 1, seen)]
    else:
        _note(below, "are too deep to be looked into")
    _note([os.path.join(folder, name) for name in listing.others], "are of a kind that is not read")
    if listing.images and found:
        raise DataError(
            f"{folder}: holds {len(listing.images)} images and {len(found)} videos, such as {found[0].path}; "
            f"choose by a pattern: '{folder}/*{os.path.splitext(listing.images[0])[1]}' for the images as "
            f"the frames of one video, or '{folder}/*/' or '{folder}/*.mp4' for the others"
        )
    return [Media(folder, in_order(listing.images, folder), False)] if listing.images else found


def _list(folder: str) -> _Listing:
    """Return what a folder holds, by names alone, in natural order."""
    if "://" not in folder:
        images, videos = files_in(folder, IMAGE_EXTENSIONS), files_in(folder, VIDEO_EXTENSIONS)
        return _Listing(images, videos, subfolders(folder), files_in(folder, OTHER_VIDEO_EXTENSIONS))
    sizes = Folder(folder, raises=DataError).sizes()
    shown = sorted((name for name in sizes if not name.startswith(".")), key=natural_key)
    files = [name for name in shown if sizes[name] != IS_FOLDER]
    kinds = (IMAGE_EXTENSIONS, VIDEO_EXTENSIONS)
    images, videos = ([name for name in files if name.lower().endswith(each)] for each in kinds)
    others = [name for name in files if name.lower().endswith(OTHER_VIDEO_EXTENSIONS)]
    return _Listing(images, videos, [name for name in shown if sizes[name] == IS_FOLDER], others)


def _note(paths: list[str], what: str) -> None:
    if paths:
        log.warning("left out: %s, which %s", some(paths), what)
