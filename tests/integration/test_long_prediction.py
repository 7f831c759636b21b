"""`sam2vt predict` on long videos, with all that it writes by default: memory does not grow with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from sam2vt.core.model.sam2 import SAM2Model

NANO = Path(__file__).resolve().parents[2] / "configs" / "network" / "sam2.1_nano.yaml"
CALL = """
import resource
from sam2vt.cli import main
main()
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_video(path: Path, num_frames: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (96, 256, 3), dtype=np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        for index in range(num_frames):
            pixels = np.ascontiguousarray(noise[:, index % 128 : index % 128 + 128])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode(None))


def peak_kibibytes(folder: Path, num_frames: int, direction: str) -> int:
    clip = folder / f"{num_frames}.mp4"
    write_video(clip, num_frames)
    frame = 0 if direction == "forward" else num_frames - 1
    shown = ["--point", "60,40", "--frame", str(frame), "--direction", direction, "--image-size", "64"]
    out = ["--out", str(folder / f"out_{num_frames}")]
    command = [sys.executable, "-c", CALL, "predict", str(folder / "nano.pt"), str(clip), *shown, *out]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"1 video, {num_frames} frames, 1 object" in done.stdout
    return int(done.stdout.split()[-1])


@pytest.mark.cluster  # a minute
@pytest.mark.parametrize(("direction", "num_frames"), [("forward", 2000), ("backward", 600)])
def test_many_frames_take_the_memory_of_100(tmp_path: Path, direction: str, num_frames: int) -> None:
    torch.manual_seed(0)
    network = SAM2Model(None, str(NANO), device="cpu", image_size=64).load().network
    torch.nn.init.constant_(network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)
    torch.save({"model": network.state_dict()}, tmp_path / "nano.pt")
    (tmp_path / "nano.yaml").write_text(NANO.read_text())
    short, long = (peak_kibibytes(tmp_path, frames, direction) for frames in (100, num_frames))
    assert long - short < 50 * 1024
