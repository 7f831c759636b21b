"""Store encoded frames to read instead of images: a folder per encoder, a Parquet file per video."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sam2vt.core.data.records.fingerprint import frames_fingerprint
from sam2vt.core.data.records.table import LEAN, SUFFIX
from sam2vt.core.storage.folder import Folder
from sam2vt.core.types import VideoRecord
from sam2vt.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch

AUTO = "auto"  # a folder of the user's cache
_FORMAT = b"sam2vt.features"
_VERSION = 1
_FRAMES = "upright RGB, the whole frame squeezed to a square by cv2, area or linear"


@dataclass(frozen=True)
class FeatureCache:
    """The features of videos from one encoder, below `root`, a folder or a URI. A row is a frame.

    The name of a file depends on the identity of its frames, that of a folder on everything else that
    features depend on. So after any change nothing is found, and features are computed anew. Files appear
    when they are complete.
    """

    root: str
    encoder: str  # all that features depend on but the frames
    levels: tuple[tuple[int, int, int], ...]  # (C, h, w) of each level, finest first
    image_size: tuple[int, int]  # of the frames that were encoded

    @cached_property
    def folder(self) -> str:
        parts = [_VERSION, _FRAMES, self.encoder, self.levels, self.image_size]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return f"{cache_root(self.root)}/{key[:32]}"

    @property
    def frame_bytes(self) -> int:
        return sum(2 * channels * height * width for channels, height, width in self.levels)

    def missing(self, records: Iterable[VideoRecord]) -> Iterator[VideoRecord]:
        """Yield the videos without features, each once."""
        # One listing instead of a request per video.
        known = set(Folder(self.folder, raises=DataError).sizes())
        for record in records:
            name = _name(record)
            if name not in known:
                known.add(name)
                yield record

    def write(self, record: VideoRecord, frames: Iterable[Sequence[np.ndarray]]) -> None:
        """Write the levels of each of `record.frames`, in order: bf16 [C, h, w], as uint16."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        name = _name(record)
        schema = self._schema(name)
        with (
            Folder(self.folder, raises=DataError).create(name, private=True) as file,
            pq.ParquetWriter(file, schema, compression="none", **LEAN) as writer,
        ):
            for levels in frames:
                assert tuple(level.shape for level in levels) == self.levels
                row = [pa.array([level.tobytes()], pa.binary()) for level in levels]
                writer.write_batch(pa.record_batch(row, schema=schema))  # a group, that it is read alone

    def read(self, record: VideoRecord, frames: Sequence[int]) -> list[np.ndarray]:
        """Return the levels of these frames, bf16 [K, C, h, w] as uint16; only their rows are read."""
        import pyarrow as pa

        name = _name(record)
        try:
            with self._opened(name) as file:
                # Row k must be frame k: a cache of another range of frames would be shifted.
                if file.metadata.num_row_groups != len(record.frames):
                    raise ValueError(f"has {file.metadata.num_row_groups} rows, not {len(record.frames)}")
                return self._rows(file, [frame - record.frames.start for frame in frames])
        except FileNotFoundError:
            raise DataError(
                f"{self.folder}: there are no features of video {record.video_id} ({record.source}) as it is "
                "now; begin the training again, which computes what is missing"
            ) from None
        except (OSError, ValueError, IndexError, pa.ArrowException) as error:
            raise DataError(
                f"{self.folder}/{name}: the features of video {record.video_id} are damaged: {error}; delete "
                "the file and begin the training again, which computes them anew",
                video=record.video_id,
                file=f"{self.folder}/{name}",
            ) from None

    def blank(self, num_frames: int) -> list[np.ndarray]:
        """Return features of black frames, for a blank clip: zeros."""
        return [np.zeros((num_frames, *level), np.uint16) for level in self.levels]

    def _schema(self, name: str) -> pa.Schema:
        import pyarrow as pa

        columns = [(f"level_{place}", pa.binary()) for place in range(len(self.levels))]
        return pa.schema(columns, metadata={_FORMAT: f"{self.folder.rpartition('/')[2]}/{name}".encode()})

    def _opened(self, name: str) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        source = Folder(self.folder, raises=DataError).open(name)
        file = pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True)
        if file.schema_arrow.metadata != self._schema(name).metadata:
            raise ValueError("it says that it holds something else")
        return file

    def _rows(self, file: pq.ParquetFile, places: Sequence[int]) -> list[np.ndarray]:
        found = [np.empty((len(places), *level), np.uint16) for level in self.levels]
        for number, place in enumerate(places):
            row = file.read_row_group(place, use_threads=False)
            for levels, shape, column in zip(found, self.levels, row.columns):
                levels[number] = np.frombuffer(column[0].as_buffer(), np.uint16).reshape(shape)
        return found


def as_bits(level: Any) -> np.ndarray:
    """Return a tensor of bf16, which NumPy does not have, as uint16; such an array stays as it is."""
    if isinstance(level, np.ndarray):
        return level
    import torch

    return level.contiguous().cpu().view(torch.int16).numpy().view(np.uint16)


def from_bits(level: np.ndarray) -> torch.Tensor:
    """Return the tensor of bf16 whose bits are uint16; it shares memory."""
    import torch

    return torch.from_numpy(level.view(np.int16)).view(torch.bfloat16)


def as_tensors(value: Any) -> Any:
    """Return a clip or a part of one with tensors instead of its arrays; they share memory."""
    import torch

    if isinstance(value, np.ndarray):
        return from_bits(value) if value.dtype == np.uint16 else torch.from_numpy(value)
    if isinstance(value, dict):
        return {key: as_tensors(each) for key, each in value.items()}
    return [as_tensors(each) for each in value] if isinstance(value, list) else value


def cache_root(setting: str) -> str:
    """Return the folder or URI that `dataset.feature_cache` means."""
    if setting != AUTO:
        return setting.rstrip("/") if "://" in setting else str(Path(setting).expanduser().absolute())
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return str(Path(home).expanduser().absolute() / "sam2vt" / "features")


def _name(record: VideoRecord) -> str:
    return f"{frames_fingerprint(record)[:40]}{SUFFIX}"
