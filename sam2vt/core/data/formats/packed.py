"""Shards that `sam2vt pack` wrote: a folder, or a URI, with its manifest.json."""

from __future__ import annotations

import os

from sam2vt.core.data.formats.layout import Found, Layout
from sam2vt.core.data.packing.dataset import is_packed, open_packed
from sam2vt.core.data.packing.schema import MANIFEST


def pack_at(path: str) -> str | None:
    """The folder or URI of a pack, which may be named by its manifest; None: there is none."""
    folder = os.path.dirname(path) if os.path.basename(path) == MANIFEST else path
    if "://" not in folder and not os.path.isdir(os.path.expanduser(folder)):
        return None
    return folder if is_packed(folder) else None


def _recognise(path: str) -> Found | None:
    folder = pack_at(path)
    if folder is None:
        return None
    why = f"{folder} has a {MANIFEST} or shards of `sam2vt pack`"
    return Found("packed shards", why, lambda options: list(open_packed(folder)))


LAYOUT = Layout("shards of `sam2vt pack`: manifest.json and shard-*.parquet", _recognise)
