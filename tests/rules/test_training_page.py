"""The Python of docs/training.md runs as it is written, on small numbers."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from sam2vt.configuration.reading import configs_dir
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.model.sam2 import create_sam2_model

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"
SMALLER = {
    "my_videos": "{videos}",
    "(512, 512)": "(64, 64), num_workers=0, video_clip_length=2",
    "range(3)": "range(1)",
}


def test_the_loop_of_your_own_trains(tmp_path: Path) -> None:
    write_sample_data(tmp_path, num_videos=1, num_frames=3, size=(48, 64))
    (loop,) = (
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "optimizer" in block
    )
    for large, small in SMALLER.items():
        assert large in loop
        loop = loop.replace(large, small.format(videos=tmp_path))
    nano = configs_dir() / "network" / "sam2.1_nano.yaml"
    model = create_sam2_model(None, nano, ["mask_decoder"], "cpu", image_size=64)
    before = [weight.clone() for weight in model.parameters() if weight.requires_grad]
    exec(loop, {"model": model})
    after = [weight for weight in model.parameters() if weight.requires_grad]
    assert not all(map(torch.equal, before, after))
