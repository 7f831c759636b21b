"""What a call was asked: its options, and the digest by which one that is resumed is known again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2vt.core.prediction.given import Asked, Given
from sam2vt.core.prediction.sources import open_sources
from sam2vt.errors import ConfigError

from .conftest import HEIGHT, WIDTH


def mask_image(path: Path, left: int = 5) -> Path:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[5:20, left:20] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    return path


@pytest.fixture
def clip(frames, tmp_path: Path) -> Path:
    return frames(tmp_path / "clip", 2)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """A JSON that names a mask, and holds another one as run lengths."""
    rle = {"size": [HEIGHT, WIDTH], "counts": [100, 50, HEIGHT * WIDTH - 150]}
    mask_image(tmp_path / "cup.png")
    entries = [{"frame": 0, "mask": "cup.png"}, {"frame": 1, "mask": rle}]
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"version": 1, "objects": [{"id": 1, "prompts": entries}]}))
    return path


def digest(clip: Path, **asked: str) -> str:
    return Given(Asked(**asked), open_sources(str(clip))).digest()


def test_the_digest_is_the_same_in_another_process(clip: Path, prompts: Path) -> None:
    code = (
        "import sys\n"
        "from sam2vt.core.prediction.given import Asked, Given\n"
        "from sam2vt.core.prediction.sources import open_sources\n"
        "print(Given(Asked(prompts=sys.argv[2]), open_sources(sys.argv[1])).digest())\n"
    )
    command = [sys.executable, "-c", code, str(clip), str(prompts)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [digest(clip, prompts=str(prompts))]


def changed_mask(folder: Path) -> dict[str, str]:
    mask_image(folder / "cup.png", left=6)
    return {"prompts": str(folder / "p.json")}


def another_object(folder: Path) -> dict[str, str]:
    (folder / "masks" / "1").rename(folder / "masks" / "2")
    return {"masks": str(folder / "masks")}


@pytest.mark.parametrize("change", [changed_mask, another_object])
def test_the_digest_is_of_all_that_is_read(
    clip: Path, prompts: Path, tmp_path: Path, change: Callable[[Path], dict[str, str]]
) -> None:
    mask_image(tmp_path / "masks" / "1" / "00000.png")
    before = {name: digest(clip, **{name: str(tmp_path / path)}) for name, path in
              (("prompts", "p.json"), ("masks", "masks"))}  # fmt: skip
    asked = change(tmp_path)
    assert digest(clip, **asked) != before[next(iter(asked))]


def test_the_digest_is_of_the_first_masks_of_a_dataset(clip: Path, tmp_path: Path) -> None:
    """Those that are never prompts count for nothing."""
    shutil.copytree(clip, tmp_path / "data" / "JPEGImages" / "clip")
    folder = tmp_path / "data" / "Annotations" / "clip"
    mask_image(folder / "00000.png")
    mask_image(folder / "00001.png")
    before = digest(tmp_path / "data")
    mask_image(folder / "00001.png", left=6)
    assert digest(tmp_path / "data") == before
    mask_image(folder / "00000.png", left=6)
    assert digest(tmp_path / "data") != before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("match_iou", 0.3),
        ("min_score", 0.1),
        ("reprompt_every", 5),
        ("end_after", 5),
        ("detections_images", "i"),
    ],
)
def test_what_is_of_detections_is_refused_without_them(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^--{name.replace('_', '-')}: without --detections FILE"):
        Asked(point=["1,1"], **{name: value})
