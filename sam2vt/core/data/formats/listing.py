"""List the content of folders, in the same order on every system."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable

from sam2vt.core.storage.disk import unreadable
from sam2vt.errors import DataError

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MASK_EXTENSIONS = (".png", ".bmp", ".tif", ".tiff")  # without loss: a changed value is another object
# What `open_video` reads; the last two hold frames without times.
VIDEO_EXTENSIONS = (
    *(".mp4", ".mov", ".m4v", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".vob"),
    *(".ts", ".m2ts", ".mts", ".wmv", ".asf", ".flv", ".ogv", ".h264", ".hevc"),
)
OTHER_VIDEO_EXTENSIONS = (".y4m", ".gif", ".mxf", ".rm", ".rmvb", ".f4v", ".divx", ".mjpg", ".mjpeg", ".dav")

_DIGITS = re.compile(r"(\d+)")
_MOST_DIGITS = 640  # Python may refuse to read longer numbers


def natural_key(name: str) -> tuple[list[tuple[int, int | str]], str]:
    """Sort names by the numbers in them: frame_2 before frame_10."""
    # Numbers and text alternate; the pairs keep them from being compared with each other.
    parts = _DIGITS.split(name)
    return [(0, int(part)) if _is_number(part) else (1, part) for part in parts], name


def last_number(name: str) -> int | None:
    """Return the last number in a name: 7 for frame_0007."""
    numbers = _DIGITS.findall(name)
    return int(numbers[-1]) if numbers and _is_number(numbers[-1]) else None


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= _MOST_DIGITS


def subfolders(folder: str) -> list[str]:
    """Return the names of the folders in a folder, empty if there is no such folder.

    Hidden folders are left out, and those that macOS adds to archives.
    """
    return _in_order(folder, filter(_is_folder, _entries(folder)))


def and_inner(folder: str) -> list[str]:
    """Return the paths of a folder and of the folders in it."""
    return [folder, *(os.path.join(folder, name) for name in subfolders(folder))]


def files_in(folder: str, extensions: Iterable[str]) -> list[str]:
    """Return the names of the files with one of these extensions, hidden ones left out, in natural order.

    Raises DataError for a pipe, a broken link and the like, and for a folder named like an image.
    """
    allowed = tuple(extensions)
    entries = [each for each in _entries(folder) if each.name.lower().endswith(allowed)]
    files = list(filter(_is_file, entries))
    rest = [] if len(files) == len(entries) else [each for each in entries if not _is_file(each)]
    for entry in sorted(rest, key=lambda each: natural_key(each.name)):
        is_folder = _is_folder(entry)
        if not is_folder or entry.name.lower().endswith(IMAGE_EXTENSIONS):
            raise _no_file(entry, is_folder)
    return _in_order(folder, files)


def _no_file(entry: os.DirEntry[str], is_folder: bool) -> DataError:
    try:
        os.stat(entry.path)
    except PermissionError as error:  # its folder may be listed, but not entered
        return unreadable(entry.path, error)
    except OSError:
        pass
    link = "a link to nothing" if entry.is_symlink() else "no regular file (a pipe, socket or device)"
    return DataError(
        f"{printable(entry.path)}: is {'a folder' if is_folder else link}, although its name is that of an "
        "image or video; restore the file or remove it"
    )


def names_in(folder: str) -> list[str]:
    """Return every name in a folder, hidden ones too."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise unreadable(printable(folder), error) from None


def text_lines(path: str, remedy: str) -> list[tuple[int, str]]:
    """Return (number from 1, stripped text) of each line of a file that is not blank.

    Raises DataError with `remedy` for a file that cannot be read, or is not UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return [(number, text) for number, line in enumerate(file, start=1) if (text := line.strip())]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text: {error}; {remedy}") from None


def check_text(path: str) -> str:
    """Return the path itself. Raises DataError if it is not UTF-8: no table or JSON could hold it."""
    if printable(path) != path:
        raise DataError(
            f"{printable(path)}: the name is not UTF-8 text; allowed are names in UTF-8: rename it, or all "
            "names in a folder by `convmv -r -f latin1 -t utf8 --notest FOLDER`"
        )
    return path


# Sorted last: a layout asks a folder of 20,000 frames for its subfolders, and sorts none.
def _in_order(folder: str, entries: Iterable[os.DirEntry[str]]) -> list[str]:
    names = sorted((entry.name for entry in entries), key=natural_key)
    # One bad name is enough: records of the whole folder go into one table.
    for name in names:
        check_text(os.path.join(folder, name))
    return names


def printable(text: str) -> str:
    """Return the text with escapes for bytes that are not UTF-8, which Python keeps as lone surrogates."""
    return text.encode("utf-8", "backslashreplace").decode()


def alike(name: str) -> str:
    """Return a name in the form for comparisons: macOS writes é as e and an accent, others as one letter."""
    return unicodedata.normalize("NFC", name)


def by_name(folder: str, names: Iterable[str]) -> dict[str, str]:
    """Return name, in the form for comparisons -> path. Raises DataError if two are equal."""
    paths: dict[str, str] = {}
    for name in names:
        # Both would be found by the name of one.
        if alike(name) in paths:
            raise DataError(
                f"{folder}: two names read alike, {name} and {os.path.basename(paths[alike(name)])}, "
                "but are made of other characters: rename one"
            )
        paths[alike(name)] = os.path.join(folder, name)
    return paths


def some(names: Iterable[object], limit: int = 5) -> str:
    """Return the first names of a list, for a message."""
    texts = [printable(str(name)) for name in names]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _entries(folder: str) -> list[os.DirEntry[str]]:
    if not os.path.isdir(folder):
        return []
    try:
        with os.scandir(folder) as entries:
            return [each for each in entries if not each.name.startswith(".") and each.name != "__MACOSX"]
    except OSError as error:
        raise unreadable(printable(folder), error) from None
