"""What lies in a folder, in an order that is the same everywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from sam2vt.errors import DataError

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MASK_EXTENSIONS = (".png", ".bmp", ".tif", ".tiff")  # without loss: a changed value is another object
VIDEO_EXTENSIONS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv")

_DIGITS = re.compile(r"(\d+)")


def natural_key(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """Sorts names by the numbers in them: frame_2 before frame_10."""
    parts = _DIGITS.split(name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts], name


def last_number(name: str) -> int | None:
    """The last number in a name: 7 for frame_0007."""
    numbers = _DIGITS.findall(name)
    return int(numbers[-1]) if numbers else None


def subfolders(folder: str) -> list[str]:
    """Names of the folders in a folder, hidden ones left out; empty if there is no such folder."""
    return [entry.name for entry in _entries(folder) if _is_folder(entry)]


def files_in(folder: str, extensions: Iterable[str]) -> list[str]:
    """Names of the files with one of these extensions, hidden ones left out, in natural order.

    Raises DataError for a pipe, a broken link and the like, and for a folder that is named as an image.
    """
    allowed = tuple(extensions)
    entries = [each for each in _entries(folder) if each.name.lower().endswith(allowed)]
    for entry in entries:
        is_folder = _is_folder(entry)
        if not os.path.isfile(entry.path) and (
            not is_folder or entry.name.lower().endswith(IMAGE_EXTENSIONS)
        ):
            link = "a link to nothing" if entry.is_symlink() else "no regular file (a pipe, socket or device)"
            raise DataError(
                f"{entry.path}: is {'a folder' if is_folder else link}, although its name is that of an "
                "image or video; restore the file or remove it"
            )
    return [entry.name for entry in entries if not _is_folder(entry)]


def some(names: Iterable[object], limit: int = 5) -> str:
    """The first names of a list, for a message."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _entries(folder: str) -> list[os.DirEntry[str]]:
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not entry.name.startswith(".")]
    return sorted(shown, key=lambda entry: natural_key(entry.name))
