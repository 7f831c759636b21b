"""What an actor makes of a video, and of a model that is not the driver's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import ray

from sam2vt.config import Config
from sam2vt.configuration.loading import to_dict
from sam2vt.core.data.records.serialization import encode_record
from sam2vt.core.types import VideoRecord
from sam2vt.distributed.feature_cache import FrameEncoder, configured_cache


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(ray, "get", lambda value: value)
    config = Config(seed=3)
    config.model.config_path, config.model.image_size = "network/sam2.1_nano.yaml", 64
    config.dataset.image_size = (64, 64)
    config.dataset.feature_cache = str(tmp_path / "features")
    return config


def encoded(encoder: FrameEncoder, record: VideoRecord) -> str:
    (error,) = encoder({"record": np.array([encode_record(record)], dtype=object)})["error"]
    return error


def test_a_video_is_written_where_the_driver_looks_for_it(config: Config, records: list[VideoRecord]) -> None:
    cache, model = configured_cache(config)
    assert encoded(FrameEncoder(to_dict(config), cache), records[0]) == ""
    assert list(cache.missing(records)) == records[1:]
    assert [level.shape[1:] for level in cache.read(records[0], [0])] == model.kept_shapes


def test_other_weights_than_the_driver_s_write_nothing(config: Config, records: list[VideoRecord]) -> None:
    cache, _ = configured_cache(config)
    config.seed = 4  # another random network
    encoder = FrameEncoder(to_dict(config), cache)
    assert "other weights than on the driver's node" in encoded(encoder, records[0])
    assert list(cache.missing(records)) == records


def test_a_model_that_cannot_be_loaded_is_said_with_its_reason(
    config: Config, records: list[VideoRecord]
) -> None:
    cache, _ = configured_cache(config)
    config.model.checkpoint_path = "/nowhere/weights.pt"
    assert "/nowhere/weights.pt" in encoded(FrameEncoder(to_dict(config), cache), records[0])
