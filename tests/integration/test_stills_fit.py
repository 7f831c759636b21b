"""Stills train as docs/stills.md says: validated on videos, or without validation."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from PIL import Image

from sam2vt.config import Config
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.errors import ConfigError
from sam2vt.train import train


@pytest.fixture
def config(tiny_config, tmp_path) -> Config:
    """Three stills to train on."""
    rng = np.random.default_rng(0)
    square = [[10, 10, 40, 10, 40, 30, 10, 30]]
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    coco = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(3)],
        "annotations": [{"id": i, "image_id": i, "segmentation": square} for i in range(3)],
    }
    (tmp_path / "_annotations.coco.json").write_text(json.dumps(coco))
    config = copy.deepcopy(tiny_config)
    config.output_dir, config.dataset.data_path = str(tmp_path / "run"), str(tmp_path)
    return config


def test_validated_on_videos(config, tiny_config):
    config.valdataset.data_path = tiny_config.dataset.data_path
    trainer = train(config)
    assert trainer.global_step == 3
    assert 0 <= float(trainer.callback_metrics["val/J&F"]) <= 1
    assert (config.checkpoint_dir / "best.ckpt").exists()


def test_without_validation(config):
    config.trainer.limit_val_batches = 0
    assert train(config).global_step == 3
    assert (config.checkpoint_dir / "last.ckpt").exists()


def test_stills_have_no_features_to_cache(config, tmp_path, monkeypatch):
    config.trainer.limit_val_batches = 0
    config.dataset.feature_cache = str(tmp_path / "features")
    monkeypatch.setattr(SAM2Model, "load", None)  # it is refused before
    with pytest.raises(ConfigError, match=r"is a still.*feature_cache=null"):
        train(config)
    assert not (tmp_path / "features").exists()
