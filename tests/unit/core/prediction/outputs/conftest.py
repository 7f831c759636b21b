"""Finished videos: sources on disk, and journals of masks that the tests know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.writing.encoding import write_video
from sam2vt.core.data.writing.folder import folder_names
from sam2vt.core.prediction.journal import Journal, TrackedVideo
from sam2vt.core.prediction.outputs import join_outputs, write_outputs
from sam2vt.core.prediction.types import FrameMasks, ObjectMask
from sam2vt.core.types import VideoRecord

Masks = list[dict[int, np.ndarray]]  # per frame; bool [height, width] by object id
MakeVideo = Callable[..., "Tracked"]


class Tracked(NamedTuple):
    video: TrackedVideo
    masks: Masks

    @property
    def visible(self) -> Masks:
        """As readers return them: an absent object has no mask."""
        return [{key: mask for key, mask in each.items() if mask.any()} for each in self.masks]


def draw(keys: Sequence[int], num_frames: int, size: tuple[int, int], overlap: bool) -> Masks:
    """Noise with holes and corners; the first object leaves on frame 1, and nobody is on frame 2."""
    rng = np.random.default_rng(len(keys))
    frames = []
    for i in range(num_frames):
        owner = rng.integers(0, len(keys) + 1, size)
        owner[:, i] = len(keys)  # ground
        masks = {key: owner == place for place, key in enumerate(keys)}
        if overlap:
            masks[keys[-1]] = masks[keys[-1]] | masks[keys[0]]
        if i == 1:
            masks[keys[0]] = np.zeros(size, bool)
        frames.append({key: mask & (i != 2) for key, mask in masks.items()})
    return frames


def write_source(root: Path, name: str, num_frames: int, size: tuple[int, int], mp4: bool) -> VideoRecord:
    """Frames of one gray each: JPEGImages/<name>/, or <name>.mp4."""
    pixels = [np.full((*size, 3), 40 + 10 * (i % 20), np.uint8) for i in range(num_frames)]
    if mp4:
        root.mkdir(parents=True, exist_ok=True)
        path = root / f"{name}.mp4"
        write_video(path, pixels, fps=12, exact_size=True)
        return VideoRecord(name, num_frames, *size, {}, video_path=str(path), source=str(path))
    folder = root / "JPEGImages" / name
    folder.mkdir(parents=True)
    paths = tuple(str(folder / f"{5 * i:04d}.jpg") for i in range(num_frames))
    for path, frame in zip(paths, pixels):
        Image.fromarray(frame).save(path)
    return VideoRecord(name, num_frames, *size, {}, frame_paths=paths, source=str(folder))


@pytest.fixture
def tracked(tmp_path: Path) -> MakeVideo:
    """Writes the source below source/, and its journal."""

    def make(
        keys: Sequence[int] = (1, 2, 3),
        video_id: str = "clip",
        names: dict[int, str] | None = None,
        size: tuple[int, int] = (23, 31),
        num_frames: int = 4,
        mp4: bool = False,
        overlap: bool = False,
    ) -> Tracked:
        record = write_source(tmp_path / "source", video_id, num_frames, size, mp4)
        masks, names = draw(keys, num_frames, size, overlap), names or {}
        path = tmp_path / "journals" / f"{video_id}.jsonl"
        with Journal(path) as journal:
            for i, each in enumerate(masks):
                objects = (ObjectMask(key, names.get(key, ""), mask, 0.9, 0.8) for key, mask in each.items())
                journal.append(FrameMasks(i, *size, tuple(objects)))
        stems = tuple(f"{i:05d}" if mp4 else f"{5 * i:04d}" for i in range(num_frames))
        name = folder_names([video_id])[video_id]
        return Tracked(
            TrackedVideo(name, video_id, *size, num_frames, stems, names, path, record, 12.0), masks
        )

    return make


@pytest.fixture
def save() -> Callable[..., None]:
    """Writes videos in a format, as a call that tracked them."""

    def write(name: str, folder: Path, *videos: TrackedVideo) -> None:
        for video in videos:
            write_outputs([name], video, folder)
        join_outputs([name], videos, folder)

    return write
