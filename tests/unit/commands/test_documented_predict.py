"""Each command and each Python example of the page on new videos runs as it is printed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from sam2vt import cli

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "masks-on-new-videos.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
# Those of the table; Meta's weights are not at hand.
COMMANDS = [each for each in re.findall(r"\| `(sam2vt predict [^`]*)` \|", PAGE) if "hf://" not in each]
HEIGHT, WIDTH = 480, 640


def write_video(path: Path, num_frames: int) -> None:
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for index in range(num_frames):
            pixels = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
            cv2.circle(pixels, (480 - 3 * index, 200), 60, (250, 200, 40), -1)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode(None))


@pytest.fixture
def here(tmp_path: Path, checkpoint: Path, sample: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the page names."""
    monkeypatch.chdir(tmp_path)
    best = tmp_path / "runs" / "mine" / "checkpoints" / "best.ckpt"
    best.parent.mkdir(parents=True)
    best.symlink_to(checkpoint)
    write_video(tmp_path / "clip.mp4", 31)  # its late object comes on frame 30
    shown = {}
    for name in ("a", "b"):
        write_video(tmp_path / "videos" / f"{name}.mp4", 2)
        shown[name] = {"objects": [{"id": 1, "prompts": [{"frame": 0, "points": [[480, 200]]}]}]}
    (tmp_path / "prompts.json").write_text(json.dumps({"version": 1, "videos": shown}))
    found = [{"frame": 28, "detections": [{"class": "cup", "box": [350, 80, 610, 420]}]}]
    (tmp_path / "detections.json").write_text(json.dumps({"version": 1, "frames": found}))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[150:250, 350:500] = 1
    (tmp_path / "first_frames").mkdir()
    Image.fromarray(mask).save(tmp_path / "first_frames" / "00027.png")
    shutil.copytree(sample, tmp_path / "my_test_videos")
    return tmp_path


class Camera:
    """What cv2 has for a camera: frames until it is unplugged."""

    def __init__(self, number: int) -> None:
        self.left = 92

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.left -= 1
        return (True, np.full((240, 320, 3), self.left, np.uint8)) if self.left >= 0 else (False, None)


def test_commands(here: Path) -> None:
    assert len(COMMANDS) == 5
    for command in COMMANDS:
        cli.main([*shlex.split(command)[1:], "--formats", "csv"])
    assert len(list((here / "runs" / "predict").glob("mine_best*/objects.csv"))) == 5


def test_python(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(EXAMPLES) == 5
    cli.main(["predict", "runs/mine", "clip.mp4", "--point", "480,200", "--frame", "28", "--formats", "csv"])
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    capsys.readouterr()
    shown = []
    for example in EXAMPLES:
        names: dict[str, object] = {}
        exec(example, names)
        shown.append((capsys.readouterr().out, names))
    (file, _), (_, camera), (batch, _), (loaded, _), (read, _) = shown
    assert re.search(r"^30 \{'cup': \d+, 2: \d+\}$", file, re.M)
    assert file.endswith(f"0 {file.splitlines()[-1][2:]}\n")  # the way back
    tracker: Callable[..., object] = camera["tracker"]  # type: ignore[assignment]
    assert tracker.next_frame == 92  # type: ignore[attr-defined]
    assert tracker.masks.objects == ()  # type: ignore[attr-defined]  # removed
    assert [line.split()[0] for line in batch.splitlines()] == ["a", "b"]
    assert [line.split()[:2] for line in loaded.splitlines()] == [["clip", str(n)] for n in range(31)]
    assert len(read.splitlines()) == 2
