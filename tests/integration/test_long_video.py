"""Whole-video evaluation with the real network: its memory does not grow with the video."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from PIL import Image

MEASURE = """
import resource, sys
import torch
from sam2vt.core.data.clips.prompts import PromptGenerator
from sam2vt.core.evaluation.video import evaluate_video
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.core.types import LabelImage, VideoRecord

torch.set_num_threads(1)
frame, mask, num_frames = sys.argv[1], sys.argv[2], int(sys.argv[3])
record = VideoRecord(
    video_id="long", num_frames=num_frames, height=96, width=128,
    annotations={i: LabelImage(mask) for i in range(num_frames)}, frame_paths=(frame,) * num_frames,
)
model = SAM2Model(None, "network/sam2.1_nano.yaml", [], "cpu", image_size=64).load()
result = evaluate_video(model, record, 64, PromptGenerator(["mask"]), seed=0)
assert result.num_frames == num_frames and result.scores[0].num_frames == num_frames - 2
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_kibibytes(frame, mask, num_frames: int) -> int:
    command = [sys.executable, "-c", MEASURE, str(frame), str(mask), str(num_frames)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def test_500_frames_take_the_memory_of_50(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.zeros((96, 128), dtype=np.uint8)
    labels[20:60, 30:80] = 1
    png = Image.fromarray(labels, mode="P")
    png.putpalette([0, 0, 0, 255, 0, 0])
    png.save(tmp_path / "mask.png")
    Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)).save(tmp_path / "frame.jpg")
    short, long = (peak_kibibytes(tmp_path / "frame.jpg", tmp_path / "mask.png", n) for n in (50, 500))
    assert long - short < 100 * 1024
