"""Videos of every kind that a pack has to keep: images, a video file, void, overlaps, unknown objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from sam2vt.core.data.writing.encoding import write_video
from sam2vt.core.types import FrameAnnotation, LabelImage, ObjectImages, Segmentations, VideoRecord

HEIGHT, WIDTH = 48, 64
PALETTE = [0, 0, 0, *(200, 0, 0) * 255]  # of all values: a shorter one would cut large ones


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[VideoRecord]:
    """Records sorted by their ids, as a dataset gives them. Do not change their files."""
    root = tmp_path_factory.mktemp("sources")
    return [_deep(root), _labels(root), _objects(root), _segmented(root), _video(root)]


def _frames(folder: Path, number: int, suffix: str = ".jpg") -> tuple[str, ...]:
    folder.mkdir()
    rng = np.random.default_rng(number)
    paths = []
    for i in range(number):
        paths.append(str(folder / f"{i:05d}{suffix}"))
        Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)).save(paths[-1])
    return tuple(paths)


def _square(left: int, top: int = 8) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top : top + 20, left : left + 16] = True
    return mask


def _save_palette(path: Path, labels: np.ndarray) -> str:
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    image.putpalette(PALETTE)
    image.save(path)
    return str(path)


def _labels(root: Path) -> VideoRecord:
    """37 JPEG frames, two of three annotated, two objects of which one leaves, and void."""
    frames = _frames(root / "labels", 37)
    annotations: dict[int, FrameAnnotation] = {}
    for i in (i for i in range(37) if i % 3):
        labels = 2 * _square(i).astype(np.uint8)
        if i < 20:
            labels[_square(40 - i, top=20)] = 1
        labels[-4:] = 255 if i % 2 else 0
        annotations[i] = LabelImage(_save_palette(root / "labels" / f"{i:05d}_mask.png", labels))
    return VideoRecord(
        "labels", 37, HEIGHT, WIDTH, annotations, frame_paths=frames, source=str(root / "labels")
    )


def _objects(root: Path) -> VideoRecord:
    """A file per object: they overlap, one is known to be absent, one is unknown on every second frame."""
    frames = _frames(root / "objects", 20, ".png")
    annotations: dict[int, FrameAnnotation] = {}
    for i in range(0, 20, 2):
        paths = {}
        for key, mask in ((3, _square(i)), (4, _square(i + 4)), (9, _square(0) & False)):
            if key != 4 or i % 4:
                path = root / "objects" / f"{i:05d}_{key}.png"
                paths[key] = _save_palette(path, mask)
        annotations[i] = ObjectImages(paths)
    return VideoRecord(
        "objects",
        20,
        HEIGHT,
        WIDTH,
        annotations,
        frame_paths=frames,
        object_ids=(3, 4, 9),
        source=str(root / "objects"),
        object_names={3: "cat", 4: "ünder", 9: "gone"},
    )


def _segmented(root: Path) -> VideoRecord:
    """As of a COCO JSON: RLE and polygons, large ids, and a frame that is known to be empty."""
    frames = _frames(root / "segmented", 18)
    annotations: dict[int, FrameAnnotation] = {}
    for i in range(0, 18, 2):
        rle = coco_mask.encode(np.asfortranarray(_square(2 * i).astype(np.uint8)))
        polygon = [[5.0, 5.0, 30.0 + i, 5.0, 30.0, 40.5]]
        annotations[i] = Segmentations({70_000: [rle], 70_001: [polygon]} if i != 6 else {})
    return VideoRecord(
        "segmented",
        18,
        HEIGHT,
        WIDTH,
        annotations,
        frame_paths=frames,
        object_ids=(70_000, 70_001),
        source=str(root / "segmented.json"),
    )


def _video(root: Path) -> VideoRecord:
    """A video file, annotated on every fourth frame."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (HEIGHT, WIDTH + 50, 3), dtype=np.uint8)
    path = root / "video.mp4"
    write_video(path, (noise[:, i : i + WIDTH] for i in range(50)), fps=25)
    (root / "video").mkdir()
    annotations: dict[int, FrameAnnotation] = {
        i: LabelImage(_save_palette(root / "video" / f"{i:05d}.png", _square(i))) for i in range(0, 50, 4)
    }
    return VideoRecord("video", 50, HEIGHT, WIDTH, annotations, video_path=str(path), source=str(path))


def _deep(root: Path) -> VideoRecord:
    """Frames of 16 bits."""
    folder = root / "deep"
    folder.mkdir()
    rng = np.random.default_rng(1)
    paths = [str(folder / f"{i:03d}.tif") for i in range(5)]
    for path in paths:
        Image.fromarray(rng.integers(0, 9000, (HEIGHT, WIDTH), dtype=np.uint16)).save(path)
    masks = {i: LabelImage(_save_palette(folder / f"{i:03d}_mask.png", _square(3 * i))) for i in range(5)}
    return VideoRecord(
        "deep",
        5,
        HEIGHT,
        WIDTH,
        dict(masks),
        frame_paths=tuple(paths),
        source=str(folder),
        intensity_range=(100, 8000),
    )
