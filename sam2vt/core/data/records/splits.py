"""Split records into training and validation records that share no frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sam2vt.config import Config
from sam2vt.core.data.records.table import RecordsByRow, RecordTable
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError
from sam2vt.settings import require


def split_records(
    records: Sequence[VideoRecord], mode: str, val_fraction: float, seed: int
) -> tuple[Sequence[VideoRecord], Sequence[VideoRecord]]:
    """Return (training records, validation records), each in the order of `records`.

    - "none": all records on both sides.
    - "video": whole videos are held back, drawn by `seed`: the share `val_fraction`, rounded, but at least
      one on each side.
    - "time": the last `val_fraction` of each video's frames is held back, by `frame_range`.

    The sides of a `RecordTable` are also read by row; a video that split=time cannot divide is only found
    when it is read. Raises ConfigError for values that are not allowed, DataError if a side would be empty.
    """
    require(Config, "split", mode)
    if mode == "none":
        both = records if isinstance(records, RecordsByRow) else list(records)
        return both, both
    require(Config, "val_fraction", val_fraction)
    if mode == "video":
        held = _held_back(records, val_fraction, seed)
        return _picked(records, np.flatnonzero(~held)), _picked(records, np.flatnonzero(held))
    if isinstance(records, RecordTable):
        _split_time(records[0], val_fraction)  # a fraction that suits no video is found at once
        places = range(len(records))
        return _Rows(records, places, val_fraction, 0), _Rows(records, places, val_fraction, 1)
    pairs = [_split_time(record, val_fraction) for record in records]
    return [train for train, _ in pairs], [val for _, val in pairs]


class _Rows(RecordsByRow):
    """Rows of a table by number; with `val_fraction` only their beginnings (side 0) or ends (side 1)."""

    def __init__(
        self, table: RecordTable, places: np.ndarray | range, val_fraction: float | None = None, side: int = 0
    ) -> None:
        self.table, self.places, self.val_fraction, self.side = table, places, val_fraction, side

    def __len__(self) -> int:
        return len(self.places)

    def _at(self, place: int) -> VideoRecord:
        record = self.table[int(self.places[place])]
        return record if self.val_fraction is None else _split_time(record, self.val_fraction)[self.side]


def _picked(records: Sequence[VideoRecord], places: np.ndarray) -> Sequence[VideoRecord]:
    if isinstance(records, RecordTable):
        return _Rows(records, places)
    return [records[place] for place in places.tolist()]


def _held_back(records: Sequence[VideoRecord], val_fraction: float, seed: int) -> np.ndarray:
    """Return bool [number of records]: the videos to validate on."""
    if len(records) < 2:
        names = ", ".join(f"{record.video_id} ({record.source})" for record in records) or "none"
        raise DataError(
            f"split=video needs at least 2 videos to hold one back; got {len(records)}: {names}. Use "
            "split=time, which holds back the end of each video, or split=none"
        )
    order = np.random.default_rng(seed).permutation(len(records))
    num_val = min(max(round(val_fraction * len(records)), 1), len(records) - 1)
    held = np.zeros(len(records), dtype=bool)
    # By the videos' names, so that the order in which they are given changes nothing.
    held[_order_of_names(records)[order[:num_val]]] = True
    return held


def _order_of_names(records: Sequence[VideoRecord]) -> np.ndarray:
    """Return the places of the records in the order of their video ids."""
    if isinstance(records, RecordTable):
        import pyarrow.compute as pc

        return pc.sort_indices(records.video_ids()).to_numpy()
    return np.array(sorted(range(len(records)), key=lambda place: records[place].video_id))


def _split_time(record: VideoRecord, val_fraction: float) -> tuple[VideoRecord, VideoRecord]:
    frames = record.frames
    if len(frames) < 2:
        raise DataError(
            f"{record.source}: video {record.video_id} has {len(frames)} usable frames; split=time needs at "
            "least 2. Use split=video or split=none"
        )
    num_val = min(max(round(val_fraction * len(frames)), 1), len(frames) - 1)
    cut = frames.stop - num_val
    sides = _between(record, frames.start, cut), _between(record, cut, frames.stop)
    for side, name in zip(sides, ("training", "validation")):
        if not side.annotated_frames:
            raise DataError(
                f"{record.source}: video {record.video_id}: none of the frames {side.frames.start} to "
                f"{side.frames.stop - 1}, which split=time with val_fraction={val_fraction} gives to {name}, "
                f"is annotated; its annotated frames are {_some(record.annotated_frames)}. Change "
                "val_fraction, or use split=video or split=none"
            )
    return sides


def _between(record: VideoRecord, start: int, stop: int) -> VideoRecord:
    """Return the record limited to frames start <= i < stop, with the objects that are annotated there."""
    part = replace(record, frame_range=(start, stop))
    if record.object_ids is None:
        return part
    present: set[int] = set()
    for index in part.annotated_frames:
        known = record.annotations[index].object_ids()
        present.update(record.object_ids if known is None else known)
    return replace(part, object_ids=tuple(each for each in record.object_ids if each in present))


def _some(values: list[int]) -> str:
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
