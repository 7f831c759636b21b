"""Check JSON written by users field by field, and report all faults of a file in one message."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from sam2vt.core.data.formats.listing import some
from sam2vt.core.data.json_files import load_json, shown
from sam2vt.core.data.masks.rle import check_rle
from sam2vt.errors import DataError

# Returns a field's value as it is used, or raises ValueError: "is ...; allowed is ...".
Check = Callable[[Any], Any]

VERSION = 1
_MOST = 2**31 - 1  # of a frame's index, or a coordinate
_MOST_SHOWN = 20
_MOST_LETTERS = 200


class Faults:
    """The faults of one file, folder or option, reported in one message."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.count = 0
        self._texts: list[str] = []

    def add(self, where: str, text: str) -> None:
        """Add a fault; `where` names video, object, frame and field as far as they are known."""
        self.count += 1
        # A file may have a million of them.
        if self.count <= _MOST_SHOWN:
            self._texts.append(f"{where}: {text}" if where else text)

    def check(self, **place: Any) -> None:
        """Raise DataError with all faults, the first 20 in full. `place` as for DataError."""
        if self.count == 1:
            raise DataError(f"{self.path}: {self._texts[0]}", **{"file": self.path, **place})
        if self.count:
            rest = self.count - len(self._texts)
            lines = [*self._texts, f"and {rest} more"] if rest else self._texts
            text = "".join(f"\n  - {line}" for line in lines)
            raise DataError(f"{self.path}: {self.count} faults:{text}", **{"file": self.path, **place})

    def fields(
        self,
        entry: Any,
        where: str,
        known: Mapping[str, Check],
        required: Iterable[str] = (),
        others: bool = False,
    ) -> dict[str, Any]:
        """Return the valid fields of an entry. `others` ignores fields that are not `known`."""
        if not isinstance(entry, dict):
            self.add(where, f"is {shown(entry)}; allowed is an object with {', '.join(known)}")
            return {}
        found, meant = {}, set()
        for name, value in entry.items():
            if name in known:
                try:
                    found[name] = known[name](value)
                except ValueError as error:
                    self.add(at(where, name), str(error))
            elif not others:
                close = get_close_matches(name, known, n=1)
                meant.update(close)
                guess = f", did you mean {close[0]}?" if close else ""
                self.add(where, f"{shown(name)} is no field here{guess}; allowed: {', '.join(known)}")
        for name in required:
            if name not in entry and name not in meant:
                self.add(where, f"has no field {name}, which is needed; allowed: {', '.join(known)}")
        return found


def read_by_video(
    path: str, inner: str, least: int = 1
) -> tuple[Faults, dict[str | None, tuple[str, list[Any]]]]:
    """Return the faults of a file so far, and per video its place for messages and its list `inner`.

    The key None means the only video, whose list is at the top. Lists need at least `least` entries. Raises
    DataError if the file is not JSON.
    """
    faults = Faults(path)
    content = load_json(path)
    known = {"version": _version, "videos": _mapping, inner: listed(least)}
    top = faults.fields(content, "", known, ("version",))
    given = sorted({"videos", inner} & content.keys()) if isinstance(content, dict) else ["nothing"]
    if len(given) != 1 and not faults.count:
        has = "both videos and" if given else "neither videos nor"
        faults.add("", f"has {has} {inner}; allowed is one of them: {inner} alone for a single video")
    videos: dict[str | None, tuple[str, list[Any]]] = {}
    if inner in top:
        videos[None] = "", top[inner]
    for video, entry in top.get("videos", {}).items():
        where = f"video {video}"
        try:
            video_name(video)
        except ValueError as error:
            faults.add("videos", str(error))
            continue
        fields = faults.fields(entry, where, {inner: listed(least)}, (inner,))
        videos[video] = where, fields.get(inner, [])
    return faults, videos


def check_videos(path: str, known: Collection[str | None], ids: Collection[str]) -> None:
    """Raise DataError for `known` videos that are not in the source, and for its `ids` that are not known.

    `known` is [None] if the file is for the only video of a source.
    """
    faults = Faults(path)
    if None in known:
        if len(ids) != 1:
            faults.add(
                "",
                f"is for a single video, but the source has {len(ids)}: {some(ids)}; name one of them as the "
                'source, or give prompts per video: in a JSON under "videos", masks in a folder per video',
            )
        return faults.check()
    for video in known:
        if video not in ids:
            close = get_close_matches(str(video), ids, n=1)
            guess = f", did you mean {close[0]}?" if close else ""
            faults.add("", f"the video {shown(video)} is not in the source{guess}; it has {some(ids)}")
    without = [each for each in ids if each not in known]
    if without:
        faults.add(
            "",
            f"{len(without)} of {len(ids)} videos of the source are not in it: {some(without)}; add them, or "
            "name only the others as the source",
        )
    faults.check()


def at(*places: str) -> str:
    """Return the words for a place, from the largest part to the smallest."""
    return ", ".join(filter(None, places))


def whole(least: int, most: int = _MOST) -> Check:
    """Return the check of an integer; 7.0 is allowed, since tables write integers like this."""

    def check(value: Any) -> int:
        value = int(value) if isinstance(value, float) and value.is_integer() else value
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"is {shown(value)}; allowed is a whole number from {least} to {most}")
        return value

    return check


def numbers(count: int, what: str) -> Check:
    """Return the check of a list of `count` numbers; messages call it `what`."""

    def check(value: Any) -> tuple[float, ...]:
        is_list = isinstance(value, list) and len(value) == count
        if not is_list or not all(map(is_number, value)):
            raise ValueError(f"is {shown(value)}; allowed are {count} finite numbers, {what}, in pixels")
        return tuple(map(float, value))

    return check


def is_number(value: Any) -> bool:
    """Return whether it is a finite number that fits a coordinate; JSON's 1e999 is read as infinite."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_MOST <= value <= _MOST


def share(value: Any) -> float:
    """Check a number from 0 to 1."""
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"is {shown(value)}; allowed is a number from 0 to 1")
    return float(value)


def listed(least: int = 1) -> Check:
    """Return the check of a list with at least this many entries."""

    def check(value: Any) -> list[Any]:
        if not isinstance(value, list) or len(value) < least:
            entries = "at least one entry" if least else "entries"
            raise ValueError(f"is {shown(value)}; allowed is a list of {entries}")
        return value

    return check


def name(value: Any) -> str:
    """Check the name of an object or class, which may become part of a file name."""
    _text(value)
    if value.startswith(".") or re.search(r"[/\\]", value):
        raise ValueError(
            f"is {shown(value)}, a path; allowed is a name without / and \\, not beginning with ."
        )
    return value


def video_name(value: Any) -> str:
    """Check the id of a video: it may contain folders, but only below the source's."""
    parts = re.split(r"[/\\]", _text(value))
    if not all(parts) or not {".", ".."}.isdisjoint(parts):
        raise ValueError(
            f"has the video {shown(value)}, a path; allowed are the names of the source's videos"
        )
    return value


def rle(value: Any) -> dict[str, Any]:
    """Check a non-empty RLE: its counts and its size, without decoding it."""
    try:
        pixels = check_rle(value, "")
    except DataError as error:
        raise ValueError(str(error).removeprefix(": ")) from None
    if not pixels:
        raise ValueError("is empty; allowed is a mask of at least one pixel: leave it out")
    return {"size": value["size"], "counts": value["counts"]}


def _text(value: Any) -> str:
    if (
        not isinstance(value, str)
        or not value.strip()
        or len(value) > _MOST_LETTERS
        or not value.isprintable()
    ):
        raise ValueError(f"is {shown(value)}; allowed is a text of 1 to {_MOST_LETTERS} printable characters")
    return value


def _version(value: Any) -> int:
    if type(value) is not int or value != VERSION:
        raise ValueError(f"is {shown(value)}; allowed is {VERSION}")
    return value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise ValueError(f"is {shown(value)}; allowed is an object with a field per video, at least one")
    return value
