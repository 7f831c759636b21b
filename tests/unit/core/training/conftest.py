"""Small generated videos and a configuration that trains the nano network on them in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2vt.config import Config
from sam2vt.core.data.writing.sample_data import write_sample_data

SIZE = 64


@pytest.fixture(scope="session")
def small_videos(tmp_path_factory) -> Path:
    """Three videos of 6 frames, two of them folders and one an mp4."""
    folder = tmp_path_factory.mktemp("videos") / "data"
    write_sample_data(folder, num_videos=3, num_frames=6, size=(48, 64))
    return folder


@pytest.fixture
def config(small_videos, tmp_path) -> Config:
    config = Config(max_objects=2, seed=7, output_dir=str(tmp_path / "run"))
    config.model.config_path = "network/sam2.1_nano.yaml"
    config.model.image_size, config.model.max_objects = SIZE, 2
    config.model.trainable_modules = ["memory_attention", "memory_encoder", "mask_decoder"]
    config.model.device = "cpu"
    config.dataset.data_path = str(small_videos)
    for dataset in (config.dataset, config.valdataset):
        dataset.image_size = (SIZE, SIZE)
        dataset.video_clip_length = 2
        dataset.num_workers = 0
    config.optimizer.lr = 1e-3
    config.trainer.accelerator, config.trainer.devices = "cpu", 1
    config.trainer.max_epochs = 1
    config.trainer.logger = config.trainer.enable_progress_bar = False
    config.trainer.log_every_n_steps = 1
    config.trainer.num_overlay_videos = 0
    return config
