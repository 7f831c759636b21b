"""SIGTERM to the driver of a run on Ray: the workers save, the driver ends with 143, and the run goes on."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from sam2vt.core.data.sample_data import write_sample_data

REPO = Path(__file__).resolve().parents[2]
START_SECONDS, STOP_SECONDS = 200, 90


def command(videos: Path, output_dir: Path, *overrides: str) -> list[str]:
    return [
        *(sys.executable, str(REPO / "ray_jobs" / "train.py"), "experiment=demo"),
        *(f"dataset.data_path={videos}", f"output_dir={output_dir}", "dataset.video_clip_length=2"),
        *("dataset.clips_per_video=1000", "trainer.val_check_interval=900", "trainer.num_overlay_videos=1"),
        "scheduler.warmup_steps=1",
        *overrides,
    ]


def wait_for_a_step(log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while not re.search(r"training, step [1-9]", log.read_text()):
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.5)


def test_saves_ends_with_143_and_goes_on(tmp_path: Path) -> None:
    videos, run, log = tmp_path / "videos", tmp_path / "run", tmp_path / "log"
    write_sample_data(videos, num_videos=2, num_frames=6)
    with log.open("w") as stream:
        driver = subprocess.Popen(command(videos, run, "trainer.max_steps=900"), stdout=stream, stderr=stream)
    try:
        wait_for_a_step(log)
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(STOP_SECONDS) == 143, log.read_text()
    finally:
        driver.kill()
    last = run / "checkpoints" / "last.ckpt"
    stopped = torch.load(last, weights_only=True)
    step = stopped["global_step"]
    assert step > 0
    assert stopped["SAM2LightningDataModule"]["samples_seen"] == 2 * step

    more = command(videos, tmp_path / "more", f"resume={last}", f"trainer.max_steps={step + 3}")
    result = subprocess.run(more, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    resumed = torch.load(tmp_path / "more" / "checkpoints" / "last.ckpt", weights_only=True)
    assert resumed["global_step"] == step + 3
    assert resumed["SAM2LightningDataModule"]["samples_seen"] == 2 * (step + 3)
