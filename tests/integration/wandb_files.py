"""What W&B has written offline, read without W&B's server."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER_BYTES, BLOCK_BYTES = 7, 32768  # of LevelDB's log, which W&B writes
WHOLE, LAST = 1, 4
SECONDS = 20  # in which the end of a run must be on the disk


def records(folder: Path, kind: str) -> list[Any]:
    """The records of a kind, such as history, of all runs in a run's folder."""
    found = [
        each for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")) for each in _ended(path)
    ]
    return [getattr(each, kind) for each in found if each.WhichOneof("record_type") == kind]


def _ended(path: Path) -> list[Any]:
    """All records of a run that has ended: W&B's own process may write for a moment longer."""
    from wandb.proto.wandb_internal_pb2 import Record

    until = time.monotonic() + SECONDS
    while True:
        found = [Record.FromString(content) for content in _contents(path.read_bytes())]
        if any(each.WhichOneof("record_type") == "exit" for each in found) or time.monotonic() > until:
            return found
        time.sleep(0.1)


def rows(folder: Path) -> list[dict[str, Any]]:
    """What was logged, row by row; names of nested values are joined by a point."""
    return [
        {".".join(each.nested_key) or each.key: json.loads(each.value_json) for each in row.item}
        for row in records(folder, "history")
    ]


def config(folder: Path) -> dict[str, Any]:
    return {
        each.key: json.loads(each.value_json)
        for record in records(folder, "config")
        for each in record.update
    }


def _contents(data: bytes) -> Iterator[bytes]:
    place, begun = HEADER_BYTES, b""
    while place + HEADER_BYTES <= len(data):
        left = BLOCK_BYTES - place % BLOCK_BYTES
        if left < HEADER_BYTES:
            place += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, place)
        begun += data[place + HEADER_BYTES : place + HEADER_BYTES + size]
        place += HEADER_BYTES + size
        if kind in (WHOLE, LAST):
            yield begun
            begun = b""
