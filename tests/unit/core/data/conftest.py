"""Tiny videos on disk, painted from rectangles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.formats import load_records
from sam2vt.core.data.frames.reading import iterate_frames
from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.types import LabelImage, VideoRecord
from sam2vt.errors import Sam2vtError

HEIGHT, WIDTH = 48, 64
Box = tuple[int, int, int, int]  # left, top, right, bottom
MakeVideo = Callable[..., VideoRecord]


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """Writes a video; per frame a mapping of object id to its rectangle, or None: not annotated."""

    def make(
        video_id: str, frames: Sequence[Mapping[int, Box] | None], frame_range: tuple[int, int] | None = None
    ) -> VideoRecord:
        folder = tmp_path / video_id
        folder.mkdir()
        annotations, paths = {}, []
        for i, boxes in enumerate(frames):
            pixels = np.full((HEIGHT, WIDTH, 3), i, dtype=np.uint8)  # a frame's value tells its index
            labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
            for object_id, (left, top, right, bottom) in (boxes or {}).items():
                labels[top:bottom, left:right] = object_id
            paths.append(str(folder / f"{i:03d}_frame.png"))
            Image.fromarray(pixels).save(paths[-1])
            if boxes is not None:
                Image.fromarray(labels).save(folder / f"{i:03d}_mask.png")
                annotations[i] = LabelImage(str(folder / f"{i:03d}_mask.png"))
        return VideoRecord(
            video_id,
            len(frames),
            HEIGHT,
            WIDTH,
            annotations,
            frame_paths=tuple(paths),
            frame_range=frame_range,
            source=str(folder),
        )

    return make


def read_all(records: Sequence[VideoRecord]) -> None:
    for record in records:
        for _ in iterate_frames(record):
            pass
        for frame in record.annotated_frames:
            load_masks(record, frame)


@pytest.fixture
def check_bad_input() -> Callable[..., None]:
    """Reads all of a dataset that has one defect; the refusal must name the place, `says`, and `remedy`.

    Everything is read: records, each frame, each mask, so that a defect passes nowhere in silence.
    """

    def check(path: Path, says: Sequence[str], remedy: str, dataset_type: str = "auto", **options) -> None:
        with pytest.raises(Sam2vtError) as caught:
            read_all(load_records(dataset_type, path, **options))
        message = str(caught.value)
        lacking = [each for each in (*says, remedy) if str(each) not in message]
        assert not lacking, f"{lacking} not in: {message}"

    return check
