"""Tiny videos on disk, painted from rectangles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.types import LabelImage, VideoRecord

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
