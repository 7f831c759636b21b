"""Small videos on disk, with masks that the tests choose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.types import LabelImage, VideoRecord


def write_labels(path: Path, labels: np.ndarray) -> None:
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200] + [255] * (252 * 3))
    image.save(path)


@pytest.fixture
def make_record(tmp_path):
    """Writes label maps [T,height,width] (None: frame not annotated) as a video of palette PNGs."""

    def make(labels, video_id="video", frame_range=None) -> VideoRecord:
        folder = tmp_path / video_id
        folder.mkdir()
        height, width = next(frame.shape for frame in labels if frame is not None)
        rng = np.random.default_rng(0)
        frames, annotations = [], {}
        for i, frame in enumerate(labels):
            pixels = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
            if frame is not None:
                pixels[frame > 0] += 120
                write_labels(folder / f"{i:05d}_mask.png", frame)
                annotations[i] = LabelImage(str(folder / f"{i:05d}_mask.png"))
            Image.fromarray(pixels).save(folder / f"{i:05d}.png")
            frames.append(str(folder / f"{i:05d}.png"))
        return VideoRecord(
            video_id=video_id,
            num_frames=len(labels),
            height=height,
            width=width,
            annotations=annotations,
            frame_paths=tuple(frames),
            frame_range=frame_range,
            source=str(folder),
        )

    return make
