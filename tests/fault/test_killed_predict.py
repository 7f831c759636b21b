"""`sam2vt predict` is killed, and continues in another process to the same bytes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.errors import EXIT_CODES
from tests.fault.conftest import REPO
from tests.fault.limits import START_SECONDS
from tests.fault.trace import wait_until

HEIGHT, WIDTH, NUM_FRAMES, SIZE = 48, 64, 120, 64
NANO = REPO / "configs" / "network" / "sam2.1_nano.yaml"
# As a user's call, but for the time after which it saves where it stands. A job in the background of a shell
# would pass over SIGINT, one under nohup over SIGHUP.
CALL = """
import signal
from sam2vt.cli import main
from sam2vt.core.prediction import run

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
run.SAVE_EVERY = 0.3
main()
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of random weights for which every object is visible."""
    torch.manual_seed(0)
    network = SAM2Model(None, str(NANO), device="cpu", image_size=SIZE).load().network
    torch.nn.init.constant_(network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)
    path = tmp_path_factory.mktemp("weights") / "nano.pt"
    torch.save({"model": network.state_dict()}, path)
    path.with_suffix(".yaml").write_text(NANO.read_text())
    return path


@pytest.fixture(scope="module")
def asked(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments of a call, of a video and prompts of every kind."""
    folder, rng = tmp_path_factory.mktemp("asked"), np.random.default_rng(0)
    with av.open(str(folder / "clip.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for _ in range(NUM_FRAMES):
            pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode(None))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:30, 10:30] = 1
    Image.fromarray(mask).save(folder / "mask.png")
    shown = [{"frame": 5, "points": [[20, 20]]}, {"frame": 40, "points": [[30, 30]], "correct": True}]
    objects = [
        {"name": "cup", "prompts": shown},
        {"id": 7, "prompts": [{"frame": 10, "mask": "mask.png"}], "remove_at": 100},
    ]
    (folder / "p.json").write_text(json.dumps({"version": 1, "objects": objects}))
    how = ["--prompts", str(folder / "p.json"), "--direction", "both", "--image-size", str(SIZE)]
    return ["predict", str(weights), str(folder / "clip.mp4"), *how]


@pytest.fixture(scope="module")
def whole(asked: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[Path, bytes]:
    """The files of a call that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    finish([*asked, "--out", "whole"], folder)
    return files_of(folder / "whole")


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def start(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CALL, *arguments]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


def finish(arguments: list[str], folder: Path) -> str:
    process = start(arguments, folder)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    return told


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_killed_call_continues_to_the_same_bytes(
    asked: list[str], whole: dict[Path, bytes], tmp_path: Path, figures, number: signal.Signals
) -> None:
    process = start([*asked, "--out", "stopped"], tmp_path)
    state = tmp_path / "stopped" / "journals" / "clip.state"
    wait_until(state.exists, START_SECONDS, "a saved state")
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == EXIT_CODES.get(number, -number)
    if number != signal.SIGKILL:
        assert "--resume stopped" in told
    assert not (tmp_path / "stopped" / "journals" / "clip.json").exists()
    told = finish([*asked, "--resume", "stopped"], tmp_path)
    figures(told.partition("continues behind ")[2].partition("\n")[0])
    assert "continues behind" in told
    assert files_of(tmp_path / "stopped") == whole
