"""Which numbers may be object ids: those that every file and tensor holds."""

from __future__ import annotations

from sam2vt.errors import DataError

_LEAST, _MOST = -(2**63), 2**63 - 1  # int64


def is_object_id(value: int) -> bool:
    return _LEAST <= value <= _MOST


def check_object_id(value: int, what: str) -> int:
    """The value itself. Raises DataError that begins with `what`: the place, and what the number is there."""
    if not is_object_id(value):
        raise DataError(
            f"{what} {str(value)[:40]}, which is too large for an object's id; allowed are whole numbers "
            f"from {_LEAST} to {_MOST}: number the objects from 1 on"
        )
    return value
