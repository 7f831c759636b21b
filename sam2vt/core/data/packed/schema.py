"""What a shard's columns hold, and the names of the files beside the shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT, VERSION = "sam2vt.packed", 1
MANIFEST = "manifest.json"  # written last: shards with it are complete
RECORDS = "records.parquet"  # a record table: which rows are which video
PROGRESS = "packing.json"  # there while packing is unfinished

MASK_COLUMNS = ("video_id", "segment", "masks")
DATA_COLUMNS = ("video_id", "segment", "data")
INDEX_COLUMNS = ("video_id", "segment", "index")


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.parquet"


def shard_schema() -> pa.Schema:
    """A row is a segment of a video; it is a row group of its own, so that it can be read alone."""
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
