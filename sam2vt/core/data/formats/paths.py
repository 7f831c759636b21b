"""Find files that a JSON or XML names, which must be inside the dataset's folders."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence

from sam2vt.core.data.formats.layout import NoFrames, Outside, ReadOptions, only
from sam2vt.core.data.formats.listing import some
from sam2vt.errors import DataError, located

_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar", ".gz")


def find_files(
    names: Sequence[list[str]], roots: Sequence[str], where: str, options: ReadOptions
) -> list[str]:
    """Return the file of each frame: the first of its names that exists. Raises DataError if none does."""
    found = []
    for place, each in enumerate(names):
        with located(frame=place):
            found.append(find_inside(each, roots, where, options.allow_absolute_paths))
    missing = [place for place, path in enumerate(found) if path is None]
    if missing:
        kind = NoFrames if len(missing) == len(names) else DataError
        raise kind(
            f"{where}: {len(missing)} of {len(names)} image files do not exist: "
            f"{some(names[place][0] for place in missing)}; looked in {', '.join(roots)} by path and "
            "file_name. Put the files there, or set dataset.image_root (--image-root)",
            frame=only(missing),
        )
    return [path for path in found if path is not None]


def find_inside(
    names: Iterable[str], roots: Sequence[str], where: str, allow_absolute: bool = False
) -> str | None:
    """Return the first of these names that is a file below one of the roots; None if there is none.

    A name is looked up as it is, and in the spelling of other systems: with slashes instead of backslashes,
    with accents as part of their letters or beside them. Symbolic links and .. are followed first. Raises
    DataError for a name that leads outside all roots, or is absolute without `allow_absolute`.
    """
    for name in dict.fromkeys(written for given in names for written in _spellings(given)):
        if os.path.isabs(name) and not allow_absolute:
            raise DataError(
                f"{where}: the file {name} has an absolute path; allowed are paths under {', '.join(roots)}: "
                "write them relative to it, or set dataset.allow_absolute_paths=true (--allow-absolute-paths)"
            )
        # Joined to a root, an absolute path stays as it is.
        candidates = [_resolve(name, root, where, allow_absolute) for root in roots]
        found = next((path for path in candidates if os.path.isfile(path)), None)
        if found is not None:
            return found
    return None


def _spellings(name: str) -> list[str]:
    slashed = with_slashes(name)
    return [name, slashed, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD"))]


def with_slashes(name: str) -> str:
    return name.replace("\\", "/")


def check_readable(path: str, setting: str = "data_path") -> None:
    """Refuse archives, and what is neither file nor folder, such as a pipe; `setting` named the path."""
    if os.path.isdir(path):
        return
    if not os.path.isfile(path):
        raise DataError(
            f"{setting} {path} is neither a file nor a folder but a pipe, socket or device; set it to the "
            "dataset's folder, video file, JSON or XML"
        )
    if path.lower().endswith(_ARCHIVES):
        raise DataError(
            f"{setting} {path} is an archive; unpack it and set {setting} to the folder that comes out"
        )


def is_inside(path: str, root: str) -> bool:
    """Return whether a path is below a folder, once symbolic links and .. are followed."""
    inside = os.path.realpath(root)
    return os.path.commonpath([os.path.realpath(path), inside]) == inside


def _resolve(name: str, root: str, where: str, anywhere: bool) -> str:
    if "\0" in name:
        raise DataError(f"{where}: the name {name!r} holds a zero character; export the annotation again")
    path = os.path.join(root, name)
    if not anywhere and not is_inside(path, root):
        real = os.path.realpath(path)
        raise Outside(
            f"{where}: the file {name} is outside {root}, at {real}; allowed are files inside the "
            "dataset's folder: move them there, set dataset.image_root (--image-root), or set "
            "dataset.allow_absolute_paths=true (--allow-absolute-paths)"
        )
    return path
