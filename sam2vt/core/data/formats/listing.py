"""What lies in a folder, in an order that is the same everywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

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
    return [entry.name for entry in _entries(folder) if entry.is_dir()]


def files_in(folder: str, extensions: Iterable[str]) -> list[str]:
    """Names of the files with one of these extensions, hidden ones left out, in natural order."""
    allowed = tuple(extensions)
    return [each.name for each in _entries(folder) if each.name.lower().endswith(allowed) and each.is_file()]


def some(names: Iterable[object], limit: int = 5) -> str:
    """The first names of a list, for a message."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _entries(folder: str) -> list[os.DirEntry[str]]:
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not entry.name.startswith(".")]
    return sorted(shown, key=lambda entry: natural_key(entry.name))
