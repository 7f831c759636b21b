"""Small videos on disk, and a Ray on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
from PIL import Image

from sam2vt.core.types import LabelImage, VideoRecord
from sam2vt.distributed.cluster.session import sigterm_as_before


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    with sigterm_as_before():
        ray.init(
            address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[VideoRecord]:
    """Three videos of 1 to 3 objects that move through noise; one is shorter than a clip of four."""
    folder = tmp_path_factory.mktemp("videos")
    return [_video(folder / f"v{i}", num_objects=i + 1, num_frames=3 + 4 * i, seed=i) for i in range(3)]


def _video(folder: Path, num_objects: int, num_frames: int, seed: int) -> VideoRecord:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    frames, annotations = [], {}
    for t in range(num_frames):
        Image.fromarray(rng.integers(0, 255, (48, 80, 3), dtype=np.uint8)).save(folder / f"{t:03}.png")
        labels = np.zeros((48, 80), dtype=np.uint8)
        for n in range(num_objects):
            labels[5 + 13 * n : 15 + 13 * n, 3 * t : 3 * t + 20] = n + 1
        image = Image.fromarray(labels, mode="P")
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
        image.save(folder / f"{t:03}_mask.png")
        frames.append(str(folder / f"{t:03}.png"))
        annotations[t] = LabelImage(str(folder / f"{t:03}_mask.png"))
    return VideoRecord(
        folder.name, num_frames, 48, 80, annotations, frame_paths=tuple(frames), source=str(folder)
    )
