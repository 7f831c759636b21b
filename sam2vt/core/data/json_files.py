"""Read JSON of unknown origin once, and check it: encoding, depth, numbers that JSON does not have."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NoReturn

from sam2vt.core.storage.disk import unreadable
from sam2vt.errors import DataError

# Parsed: a recogniser looks at what a loader reads next, a clip reads one file frame by frame.
_FILES_HELD = 4
_HALF_OF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # as characters beyond 16 bits are escaped, in two halves
_LONE_HALF = re.compile("[\ud800-\udfff]")  # the parser has made one character of each pair


def load_json(path: str) -> Any:
    """Return the content of a JSON file; it is shared between callers and must not be changed.

    Raises DataError naming the file if it cannot be read, is not UTF-8, is nested too deeply, or contains
    NaN, Infinity, a field twice or a text that is not Unicode.
    """
    try:
        # Size and time are part of the cache's key: a file that changed is read again.
        status = os.stat(path)
        if not os.path.isfile(path):
            raise DataError(f"{path}: is no file; allowed is a JSON file", file=path)
        return _parsed(path, status.st_mtime_ns, status.st_size)
    except DataError:
        raise
    except OSError as error:
        raise unreadable(path, error) from None
    except (RecursionError, ValueError) as error:
        reason = f"{path}: cannot be read as JSON: {_reason(error)}; write the file anew"
        raise DataError(reason, file=path) from None


def _reason(error: RecursionError | ValueError) -> str:
    # The parser recurses per level: a file of brackets would end the process.
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    # Python names a switch of its own there, which is no remedy.
    is_number = "integer string conversion" in str(error)
    return "it holds a number of thousands of digits" if is_number else str(error)


@lru_cache(maxsize=_FILES_HELD)
def _parsed(path: str, mtime_ns: int, num_bytes: int) -> Any:
    with open(path, encoding="utf-8-sig") as file:
        text = file.read()
    content = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    # Walking all texts of a large JSON is slow, and few files have such an escape.
    if _HALF_OF_A_PAIR.search(text):
        broken = next((place for place, each in _texts(content) if _LONE_HALF.search(each)), None)
        if broken is not None:
            raise ValueError(f"{broken or 'it'} holds half a character (\\ud800 to \\udfff without its pair)")
    return content


def _texts(content: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text, fields' names too, with the place where it is, such as images[0].file_name."""
    if isinstance(content, str):
        yield place, content
    elif isinstance(content, list):
        for number, each in enumerate(content):
            yield from _texts(each, f"{place}[{number}]")
    elif isinstance(content, dict):
        for name, each in content.items():
            yield f"a field of {place}" if place else "a field", name
            yield from _texts(each, f"{place}.{name}" if place else name)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r} is there twice in one object")
    return fields


def field(entry: Any, name: str, kind: type | tuple[type, ...], where: str) -> Any:
    """Return a field of an object, of this type. Raises DataError naming both."""
    if not isinstance(entry, dict):
        raise DataError(f"{where}: is {shown(entry)}; allowed is an object with the field {name}")
    value = entry.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        raise DataError(f"{where}: the field {name} is {shown(value)}; it must be of type {wanted}")
    return value


def check_objects(entries: list[Any], key: str, path: str) -> None:
    """Raise DataError if an entry of the list `key` is not an object with fields."""
    wrong = next((place for place, each in enumerate(entries) if not isinstance(each, dict)), None)
    if wrong is not None:
        raise DataError(f"{path}: {key}[{wrong}] is {shown(entries[wrong])}, not an object of fields")


def shown(value: Any) -> str:
    """Return the beginning of a value, for a message."""
    try:
        return f"{str(value)[:40]!r}"
    except RecursionError:  # the parser goes deeper than Python's own functions
        return f"a {type(value).__name__} that is nested deeply"
