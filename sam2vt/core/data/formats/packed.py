"""Read shards that `sam2vt pack` wrote: a folder, or a URI, with its manifest.json."""

from __future__ import annotations

import os
from collections.abc import Iterator

from sam2vt.core.data.formats.layout import Found, Layout
from sam2vt.core.data.packed.manifest import (
    FORMAT,
    MANIFEST,
    PROGRESS,
    RECORDS,
    PackedPart,
    PackManifest,
    read_manifest,
    shard_name,
)
from sam2vt.core.data.records.table import RecordTable
from sam2vt.core.data.workers import with_progress
from sam2vt.core.storage.folder import Folder
from sam2vt.errors import DataError


def pack_at(path: str) -> str | None:
    """Return the folder or URI of a pack, which may be named by its manifest; None if there is none."""
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


_COPY = "copy it again, or pack the dataset again"


def is_packed(path: str) -> bool:
    """Return whether a folder or URI contains a pack, complete or not."""
    folder = Folder(path, raises=DataError)
    found = folder.has(MANIFEST, PROGRESS, shard_name(0))
    # Other programs write a manifest.json, too: the shards or its content tell.
    return bool(found - {MANIFEST}) or (bool(found) and FORMAT.encode() in folder.read(MANIFEST))


def open_packed(path: str) -> RecordTable:
    """Return the videos of a pack, read by row. Raises DataError if files are missing or of another
    size.
    """
    folder = Folder(path, raises=DataError)
    faults = [fault for _, fault in _part_faults(folder, _complete(folder))]
    if faults:
        more = f" (and {len(faults) - 1} other files)" if len(faults) > 1 else ""
        raise DataError(f"{faults[0]}{more}")
    return RecordTable(f"{folder.root}/{RECORDS}")


def verify(path: str) -> tuple[PackManifest, list[DataError]]:
    """Return the manifest, and the faults of the files, each of which is compared with its checksum."""
    folder = Folder(path, raises=DataError)
    if not is_packed(path):
        raise DataError(
            f"{folder.root}: is no pack: it {_holds(folder)}; --verify takes the folder or URI that "
            "`sam2vt pack DATA OUT` wrote to. Other datasets are checked by `sam2vt validate`"
        )
    manifest = _complete(folder)
    faults = {part.name: fault for part, fault in _part_faults(folder, manifest)}
    # A file of another size needs no checksum.
    whole = [part for part in manifest.parts if part.name not in faults]
    for part in with_progress(whole, len(whole), "file"):
        if folder.sha256(part.name) != part.sha256:
            what = f"its content is not what was written: its checksum is not that of {MANIFEST}"
            faults[part.name] = DataError(f"{folder.root}/{part.name}: {what}; {_COPY}")
    return manifest, list(faults.values())


def _holds(folder: Folder) -> str:
    """Return what there is instead of a pack, for a sentence."""
    names = sorted(folder.sizes())
    if MANIFEST in names:
        return f"has a {MANIFEST} of another program"
    return f"holds {', '.join(names[:5])}, but no {MANIFEST}" if names else "is empty, or does not exist"


def _complete(folder: Folder) -> PackManifest:
    names = folder.sizes()
    if MANIFEST not in names:
        how = "was interrupted: run the same command again" if PROGRESS in names else f"lacks it: {_COPY}"
        raise DataError(f"{folder.root}: there is no {MANIFEST}, which is written last; the pack {how}")
    return read_manifest(folder)


def _part_faults(folder: Folder, manifest: PackManifest) -> Iterator[tuple[PackedPart, DataError]]:
    """Yield the files that are missing or of another size, by one look at the folder."""
    sizes = folder.sizes()
    for part in manifest.parts:
        size = sizes.get(part.name)
        fault = f"has {size} bytes, not the {part.bytes} that {MANIFEST} says"
        if size is None:
            fault = f"the file is missing, which {MANIFEST} names"
        if size != part.bytes:
            yield part, DataError(f"{folder.root}/{part.name}: {fault}; {_COPY}")
