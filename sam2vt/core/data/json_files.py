"""JSON of unknown origin, read once and checked: encoding, depth, numbers that JSON does not have."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any, NoReturn

from sam2vt.errors import DataError

_FILES_HELD = (
    4  # parsed: a recogniser looks at what a loader reads next, a clip reads one file frame by frame
)


def load_json(path: str) -> Any:
    """The content of a JSON file; it is shared between callers and must not be changed.

    Raises DataError naming the file for one that cannot be read, is no UTF-8, is nested too deeply, holds
    a number that is none (NaN, Infinity) or a field twice.
    """
    try:
        status = os.stat(path)
        if not os.path.isfile(path):
            raise DataError(f"{path}: is no file; allowed is a JSON file", file=path)
        return _parsed(path, status.st_mtime_ns, status.st_size)
    except RecursionError:
        raise DataError(
            f"{path}: is nested too deeply to be a dataset's JSON; write it anew", file=path
        ) from None
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise DataError(f"{path}: cannot be read as JSON: {reason}; write the file anew", file=path) from None


@lru_cache(maxsize=_FILES_HELD)
def _parsed(path: str, mtime_ns: int, num_bytes: int) -> Any:
    with open(path, encoding="utf-8-sig") as file:
        return json.load(file, parse_constant=_refuse_constant, object_pairs_hook=_unique)


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
    """A field of an object, of this type. Raises DataError naming both."""
    if not isinstance(entry, dict):
        raise DataError(f"{where}: is {shown(entry)}; allowed is an object with the field {name}")
    value = entry.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        raise DataError(f"{where}: the field {name} is {shown(value)}; it must be of type {wanted}")
    return value


def shown(value: Any) -> str:
    """The beginning of a value, for a message."""
    return f"{str(value)[:40]!r}"
