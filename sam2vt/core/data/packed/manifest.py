"""Define the files of a pack: shards, manifest.json, which is written last, and packing.json until then."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from sam2vt.core.storage.folder import Folder
from sam2vt.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT, VERSION = "sam2vt.packed", 1
MANIFEST = "manifest.json"  # written last: shards with it are complete
RECORDS = "records.parquet"  # a record table: which rows are which video
PROGRESS = "packing.json"  # there while packing is unfinished

MASK_COLUMNS = ("video_id", "segment", "masks")
DATA_COLUMNS = ("video_id", "segment", "data")
INDEX_COLUMNS = ("video_id", "segment", "index")
_REMEDY = "copy it again, or pack the dataset again"


@dataclass(frozen=True)
class PackedPart:
    """A file of a pack."""

    name: str
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class PackManifest:
    """The content of a complete pack."""

    videos: int
    frames: int
    annotated_frames: int
    segment_frames: int
    encode: str
    shards: list[PackedPart]
    records: PackedPart  # one row per video
    format: str = FORMAT
    version: int = VERSION

    @property
    def parts(self) -> list[PackedPart]:
        return [*self.shards, self.records]


@dataclass(frozen=True)
class PackProgress:
    """The source and options of an unfinished pack, and its finished shards."""

    source: str  # SHA-256 of the records and of the sizes and times of their files
    options: dict[str, Any]
    shards: list[PackedPart] = field(default_factory=list)
    format: str = FORMAT
    version: int = VERSION


def write_json(folder: Folder, content: PackManifest | PackProgress) -> None:
    """Write the manifest or the progress under its name."""
    name = MANIFEST if isinstance(content, PackManifest) else PROGRESS
    folder.write(name, json.dumps(asdict(content), indent=1).encode())


def read_manifest(folder: Folder) -> PackManifest:
    """Raise DataError naming missing or wrong entries."""
    where = f"{folder.root}/{MANIFEST}"
    fields = _read(folder, MANIFEST, where)
    shards, records = fields.get("shards"), fields.get("records")
    if not isinstance(shards, list) or not shards or not isinstance(records, dict):
        raise DataError(f"{where}: lists no shards and records; {_REMEDY}")
    try:
        parts = [PackedPart(**each) for each in (*shards, records)]
        manifest = PackManifest(**{**fields, "shards": parts[:-1], "records": parts[-1]})
    except TypeError as error:
        raise DataError(f"{where}: a field is missing or not known: {error}; {_REMEDY}") from None
    for part in parts:
        # A name with a slash would read outside of the pack.
        if type(part.name) is not str or "/" in part.name or type(part.bytes) is not int:
            raise DataError(
                f"{where}: {part.name!r} with {part.bytes!r} bytes is no file of a pack; {_REMEDY}"
            )
    if manifest.records.name != RECORDS:
        raise DataError(f"{where}: the records are in {manifest.records.name}, not in {RECORDS}; {_REMEDY}")
    return manifest


def read_progress(folder: Folder) -> PackProgress:
    """Raise DataError if it cannot be read, or does not belong to a pack."""
    where = f"{folder.root}/{PROGRESS}"
    fields = _read(folder, PROGRESS, where)
    try:
        return PackProgress(**{**fields, "shards": [PackedPart(**each) for each in fields["shards"]]})
    except (TypeError, KeyError) as error:
        raise DataError(f"{where}: a field is missing or not known: {error}; remove the folder") from None


def _read(folder: Folder, name: str, where: str) -> dict[str, Any]:
    content = folder.read(name)
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: is no JSON: {error}; {_REMEDY}") from None
    if not isinstance(fields, dict) or fields.get("format") != FORMAT:
        raise DataError(f"{where}: is not of a pack: its format is not {FORMAT}; choose another folder")
    if fields.get("version") != VERSION:
        raise DataError(
            f"{where}: is of version {fields.get('version')}, this sam2vt reads version {VERSION}; pack the "
            "dataset again"
        )
    return fields


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.parquet"


def shard_schema() -> pa.Schema:
    """Return the columns of a shard. A row is a segment of a video, in a row group of its own."""
    import pyarrow as pa

    ids, binary = pa.list_(pa.int64()), pa.list_(pa.binary())
    masks = [
        ("frame", pa.int32()),  # from the start of the video
        ("ids", ids),  # of the visible objects
        ("counts", binary),  # COCO's compressed RLE of each
        ("void", pa.binary()),  # the same; null: nothing is void
        ("known", ids),  # objects of which the frame tells whether they are visible; null: all
    ]
    index = [("num_frames", pa.int64()), ("times", ids), ("key_times", ids), ("key_seeks", ids)]
    columns = [
        ("video_id", pa.string()),
        ("video", pa.int32()),  # its place in the dataset
        ("segment", pa.int32()),  # its place in the video
        ("first_frame", pa.int32()),
        ("num_frames", pa.int32()),  # of the segment
        ("masks", pa.list_(pa.struct(masks))),  # an entry an annotated frame
        ("index", pa.struct([*index, ("exact", pa.bool_())])),  # of a video file; in its first row only
        ("metadata", pa.string()),  # JSON: size, number of frames, object names; in a video's first row only
        ("data", binary),  # an encoded image a frame, or one slice of a video file
    ]
    return pa.schema(columns, metadata={FORMAT: str(VERSION)})
