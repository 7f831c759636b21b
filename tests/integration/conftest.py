"""A configuration that trains the nano network on small generated videos in seconds."""

from __future__ import annotations

import pytest

from sam2vt.config import Config
from sam2vt.core.data.sample_data import write_sample_data


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory) -> Config:
    """Three videos of 5 frames at 64 px, an epoch of 3 steps. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("videos") / "data"
    write_sample_data(folder, num_videos=3, num_frames=5, size=(48, 64))
    config = Config(max_objects=2, seed=7, output_dir=str(tmp_path_factory.mktemp("run")))
    config.model.config_path = "network/sam2.1_nano.yaml"
    config.model.image_size, config.model.max_objects = 64, 2
    config.model.trainable_modules = ["memory_attention", "memory_encoder", "mask_decoder"]
    config.dataset.data_path = str(folder)
    for dataset in (config.dataset, config.valdataset):
        dataset.image_size = (64, 64)
        dataset.video_clip_length = 2
        dataset.num_workers = 0
    config.dataset.prompt_types = ["mask"]
    config.optimizer.lr = 1e-3
    config.scheduler.enabled = False
    config.trainer.accelerator, config.trainer.devices = "cpu", 1
    config.trainer.max_epochs = 1
    config.trainer.logger = config.trainer.enable_progress_bar = False
    config.trainer.log_every_n_steps = 1
    config.trainer.num_overlay_videos = 0
    return config
