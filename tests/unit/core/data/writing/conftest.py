"""Small DAVIS trees, and what two datasets have to share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.data.masks.loading import load_masks
from sam2vt.core.data.writing.encoding import write_video
from sam2vt.core.types import VideoRecord

HEIGHT, WIDTH, NUM_FRAMES = 48, 64, 10
PALETTE = [0, 0, 0, *(200, 0, 0) * 255]  # of all values: a shorter one would cut large ones


@pytest.fixture
def davis(tmp_path: Path) -> Callable[..., Path]:
    """Writes two videos with objects 1, 2 and 5, of which one comes later; the second may be an mp4."""

    def write(
        annotated: Iterable[int] = range(NUM_FRAMES),
        mp4: bool = False,
        size: tuple[int, int] = (HEIGHT, WIDTH),
        void: bool = False,
    ) -> Path:
        root = tmp_path / "davis"
        for name in ("a", "b"):
            pixels = np.random.default_rng(ord(name)).integers(0, 255, (NUM_FRAMES, *size, 3), dtype=np.uint8)
            frames = root / "JPEGImages" / name
            frames.parent.mkdir(parents=True, exist_ok=True)
            if mp4 and name == "b":
                write_video(frames.with_suffix(".mp4"), pixels, fps=24)
            else:
                frames.mkdir()
                for i in range(NUM_FRAMES):
                    Image.fromarray(pixels[i]).save(frames / f"{5 * i:04d}.jpg")
            for i in annotated:
                stem = f"{i:05d}" if mp4 and name == "b" else f"{5 * i:04d}"
                write_labels(root / "Annotations" / name / f"{stem}.png", labels_at(i, size, void))
        return root

    return write


def labels_at(i: int, size: tuple[int, int] = (HEIGHT, WIDTH), void: bool = False) -> np.ndarray:
    labels = np.zeros(size, dtype=np.uint8)
    labels[4:16, i : i + 10] = 1
    labels[20:36, 40 - i : 50 - i] = 2
    if i > 3:
        labels[38:46, 20:30] = 5
    if void:
        labels[:2] = 255
    return labels


def write_labels(path: Path, labels: np.ndarray) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels, mode="P")
    image.putpalette(PALETTE)
    image.save(path)
    return str(path)


@pytest.fixture
def assert_same_masks() -> Callable[[Sequence[VideoRecord], Sequence[VideoRecord]], None]:
    def check(expected: Sequence[VideoRecord], found: Sequence[VideoRecord]) -> None:
        for left, right in zip(expected, found, strict=True):
            sizes = [(each.video_id, each.num_frames, each.height, each.width) for each in (left, right)]
            assert sizes[0] == sizes[1]
            assert list(left.annotations) == list(right.annotations)  # others stay without annotation
            for frame in left.annotations:
                a, b = load_masks(left, frame), load_masks(right, frame)
                assert list(a) == list(b)
                assert all(np.array_equal(a[key], b[key]) for key in a)

    return check
