"""Write a segment of a video as a row of a shard."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from sam2vt.core.data.frames.video import VideoSource, frame_index, video_source
from sam2vt.core.data.masks.loading import known_objects, load_masks, load_void
from sam2vt.core.data.masks.rle import encode_mask
from sam2vt.core.data.packed.reader import slice_bytes
from sam2vt.core.data.records.serialization import decode_record, encode_extra
from sam2vt.core.data.writing.encoding import Encoding, encoded_frames, is_kept
from sam2vt.core.types import PackedMasks, PackedVideo, VideoRecord

Row = dict[str, Any]  # by the columns of a shard
_record = lru_cache(maxsize=2)(decode_record)  # tasks of a video follow each other


class SegmentTask(NamedTuple):
    """Consecutive segments of one video, for any process."""

    record: str  # as `encode_record` writes it
    video: int
    segments: range
    segment_frames: int
    encoding: Encoding


def num_segments(record: VideoRecord, segment_frames: int) -> int:
    return -(-record.num_frames // segment_frames)


def build_rows(task: SegmentTask) -> list[Row]:
    """Raise DataError for a frame, mask or file that cannot be read."""
    record = _record(task.record)
    return [_row(record, task, segment) for segment in task.segments]


def packed_record(
    record: VideoRecord, segment_frames: int, encoding: Encoding, rows: tuple[tuple[str, int, int], ...]
) -> VideoRecord:
    """Return the record of the content of these rows; its shards are beside its table."""
    source = _kept_file(record, encoding)
    file = None if source is None else (_ending(source), _num_bytes(source))
    return replace(
        _without_files(record, encoding),
        annotations={index: PackedMasks() for index in record.annotations},
        frame_paths=None,
        video_path=None,
        source="",
        packed=PackedVideo("", segment_frames, rows, file, record.from_coco),
    )


def _row(record: VideoRecord, task: SegmentTask, segment: int) -> Row:
    start = segment * task.segment_frames
    frames = range(start, min(start + task.segment_frames, record.num_frames))
    source = _kept_file(record, task.encoding)
    is_first = segment == 0
    if source is None:
        data = list(encoded_frames(record, frames, task.encoding))
    else:
        data = [_slice(source, segment, num_segments(record, task.segment_frames))]
    return {
        "video_id": record.video_id,
        "video": task.video,
        "segment": segment,
        "first_frame": start,
        "num_frames": len(frames),
        "masks": [_masks(record, frame) for frame in frames if frame in record.annotations],
        "index": frame_index(source).to_row() if source is not None and is_first else None,
        "metadata": _metadata(record, task.encoding) if is_first else None,
        "data": data,
    }


def _masks(record: VideoRecord, frame: int) -> dict[str, Any]:
    objects, known = load_masks(record, frame), known_objects(record, frame)
    void = load_void(record, frame)
    return {
        "frame": frame,
        "ids": list(objects),
        "counts": [encode_mask(mask)["counts"] for mask in objects.values()],
        "void": None if void is None else encode_mask(void)["counts"],
        "known": None if known is None else sorted(known),
    }


def _metadata(record: VideoRecord, encoding: Encoding) -> str:
    source = _kept_file(record, encoding)
    fields = {
        "num_frames": record.num_frames,
        "height": record.height,
        "width": record.width,
        "annotated_frames": len(record.annotations),
        "object_ids": record.object_ids and list(record.object_ids),
        "video_file": None if source is None else _ending(source),
        "extra": encode_extra(_without_files(record, encoding)),
    }
    return json.dumps(fields, ensure_ascii=False)


def _without_files(record: VideoRecord, encoding: Encoding) -> VideoRecord:
    # A frame that is encoded anew has 8 bits.
    intensity_range = record.intensity_range if is_kept(record, encoding) else None
    return replace(record, object_list=None, intensity_range=intensity_range)


def _kept_file(record: VideoRecord, encoding: Encoding) -> VideoSource | None:
    return video_source(record) if encoding.kind == "keep" else None


def _slice(source: VideoSource, segment: int, number: int) -> bytes:
    size = slice_bytes(_num_bytes(source), number)
    with open(source, "rb") if isinstance(source, str) else source.open() as file:
        file.seek(segment * size)
        left, pieces = size, []
        # A read may return less than asked for.
        while left and (piece := file.read(left)):
            pieces.append(piece)
            left -= len(piece)
    return b"".join(pieces)


def _num_bytes(source: VideoSource) -> int:
    return os.path.getsize(source) if isinstance(source, str) else source.num_bytes


def _ending(source: VideoSource) -> str:
    return os.path.splitext(source)[1].lower() if isinstance(source, str) else source.ending
