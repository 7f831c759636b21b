"""Writers of small frames and masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HEIGHT, WIDTH = 24, 32
PALETTE = (0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0)


def write_frame(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size[1], size[0]), (90, 120, 60)).save(path)


def write_mask(path: Path, ids: tuple[int, ...] = (1,), size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    """A palette PNG in which each id fills four columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros(size, dtype=np.uint8)
    for place, object_id in enumerate(ids):
        labels[4:12, 4 * place : 4 * place + 4] = object_id
    image = Image.fromarray(labels, mode="P")
    image.putpalette(PALETTE)
    image.save(path)


@pytest.fixture
def frame() -> Callable[..., None]:
    return write_frame


@pytest.fixture
def mask() -> Callable[..., None]:
    return write_mask


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Writes JPEGImages/<video>/ and Annotations/<video>/; masks only for the frames of `annotated`."""

    def write(
        videos: dict[str, int], annotated: range | None = None, root: str = "", level: str = ""
    ) -> Path:
        top = tmp_path / root
        for video, num_frames in videos.items():
            for i in range(num_frames):
                write_frame(top / "JPEGImages" / level / video / f"{i:05d}.jpg")
                if annotated is None or i in annotated:
                    write_mask(top / "Annotations" / level / video / f"{i:05d}.png", (1, 2))
        return top

    return write
