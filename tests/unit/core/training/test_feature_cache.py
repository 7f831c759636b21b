"""Training from cached features: the same losses, never those of other weights or videos."""

from __future__ import annotations

import copy
import logging
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from sam2vt.config import Config
from sam2vt.core.data.clips import content as clips
from sam2vt.core.data.clips.collate import collate_fn
from sam2vt.core.training import feature_cache
from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
from sam2vt.core.types import VideoRecord
from sam2vt.errors import ConfigError, DataError
from sam2vt.train import build_trainer

MEMORY = ["memory_attention", "memory_encoder"]


class _Losses(L.Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.values.append(float(outputs["loss"]))
        self.given = sorted({"images", "features"} & set(batch))


def fitted(config: Config, seed: int = 7, **settings: Any) -> _Losses:
    """A fit of six steps without validation."""
    config = copy.deepcopy(config)
    config.seed, config.dataset.clips_per_video, config.trainer.limit_val_batches = seed, 2, 0
    for name, value in settings.items():
        setattr(config.dataset, name, value)
    seen = _Losses()
    trainer = build_trainer(config, [seen], enable_checkpointing=False)
    trainer.fit(SAM2LightningModule(config), datamodule=SAM2LightningDataModule(config))
    return seen


def files(folder: Path) -> dict[str, int]:
    """Every file of a cache, and when it was written."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.parquet")}


DECODER = [*MEMORY, "mask_decoder"]
STAGES = [(DECODER, "32-true"), (MEMORY, "32-true"), (DECODER, "bf16-mixed")]


@pytest.mark.parametrize(("trained", "precision"), STAGES, ids=["before", "after", "before, mixed"])
def test_losses_are_those_without_a_cache(config, tmp_path, trained, precision):
    config.model.trainable_modules, config.trainer.precision = trained, precision
    if trained == MEMORY:
        config.loss.iou_head_weight = config.loss.presence_weight = 0.0
    expected = fitted(config)
    for _ in range(2):  # computed, then found
        found = fitted(config, feature_cache=str(tmp_path / "features"))
        assert (expected.given, found.given) == (["images"], ["features"])
        assert len(expected.values) == 6
        assert found.values == pytest.approx(expected.values, rel=1e-2)
        assert found.values != expected.values


def test_what_is_there_is_not_computed_again_and_images_are_not_read(config, tmp_path, monkeypatch):
    folder = tmp_path / "features"
    first = fitted(config, feature_cache=str(folder))
    written = files(folder)
    assert len(written) == 3
    monkeypatch.setattr(clips, "read_frames", None)
    monkeypatch.setattr(feature_cache, "video_frames", None)
    assert fitted(config, feature_cache=str(folder)).values == first.values
    assert files(folder) == written


def test_other_weights_are_never_served_old_features(config, tmp_path):
    """Another seed is another random encoder."""
    folder = tmp_path / "features"
    fitted(config, feature_cache=str(folder))
    old = files(folder)
    found = fitted(config, seed=8, feature_cache=str(folder))
    assert found.values == pytest.approx(fitted(config, seed=8).values, rel=1e-2)
    assert len(files(folder)) == 2 * len(old)
    assert old.items() <= files(folder).items()


def test_a_changed_video_and_a_lost_file_are_computed_anew(config, small_videos, tmp_path):
    folder, data = tmp_path / "features", tmp_path / "data"
    shutil.copytree(small_videos, data)
    settings = {"data_path": str(data), "feature_cache": str(folder)}
    fitted(config, **settings)
    old = files(folder)
    lost = next(iter(old))
    (folder / lost).unlink()
    fitted(config, **settings)
    assert files(folder).keys() == old.keys()
    (video,) = data.rglob("*.mp4")
    os.utime(video, ns=(1, 1))
    fitted(config, **settings)
    assert len(files(folder).keys() - old.keys()) == 1


def test_the_log_says_what_it_costs(config, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "sam2vt"):
        fitted(config, feature_cache=str(tmp_path / "features"))
    told = [text for text in caplog.messages if text.startswith("feature cache:")]
    assert "18 frames of 3 videos to encode" in told[0]
    assert "18 of 18 frames" in told[-1]


def test_a_still_is_refused_before_the_model_is_built():
    still = VideoRecord("s", 1, 4, 4, {}, frame_paths=("s.png",), is_still=True)
    with pytest.raises(ConfigError, match=r"s .* is a still.*feature_cache=null"):
        list(feature_cache.videos_to_cache([still]))


@pytest.mark.parametrize("skip", [False, True])
def test_a_video_that_cannot_be_read_is_skipped_where_clips_are_quarantined(config, tmp_path, skip, caplog):
    module, data = SAM2LightningModule(config), SAM2LightningDataModule(config)
    data.setup()
    module.setup()
    records = list(data.train_records)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    records[0] = VideoRecord("broken", 3, 48, 64, {}, video_path=str(broken), source="here")
    cache = feature_cache.cache_of(module.model, str(tmp_path / "features"))
    if not skip:
        with pytest.raises(DataError, match=r"broken\.mp4"):
            feature_cache.fill(cache, module.model, records)
        return
    feature_cache.fill(cache, module.model, records, skip_damaged=True)
    assert list(cache.missing(records)) == records[:1]
    assert "video broken is left out" in caplog.text


def test_ranks_share_the_work_whatever_is_there_already(config, tmp_path, monkeypatch):
    config.dataset.feature_cache = str(tmp_path / "features")
    module, data = SAM2LightningModule(config), SAM2LightningDataModule(config)
    data.setup()
    module.setup()
    for rank, number in ((1, 1), (0, 3)):
        monkeypatch.setattr(data, "_rank_and_world_size", lambda rank=rank: (rank, 2))
        data.use_features(module.model)
        assert len(files(tmp_path / "features")) == number
    with torch.no_grad():
        clip = data.train_dataset[0]
    assert [tuple(level.shape[1:]) for level in clip["features"]] == module.model.kept_shapes


def test_a_signal_ends_the_computation_with_its_exit_code_and_no_half_of_a_file(config, tmp_path):
    config.dataset.feature_cache = str(tmp_path / "features")
    module, data = SAM2LightningModule(config), SAM2LightningDataModule(config)
    data.setup()
    module.setup()
    data.trainer = SimpleNamespace(received_sigterm=True, global_rank=0, world_size=1)
    with pytest.raises(SystemExit) as end:
        data.use_features(module.model)
    assert end.value.code == 143
    assert files(tmp_path / "features") == {}


def test_another_data_module_is_refused_where_there_is_a_cache(config, tmp_path):
    config.dataset.feature_cache, config.trainer.limit_val_batches = str(tmp_path / "features"), 0
    data = SAM2LightningDataModule(config)
    data.setup()
    trainer = build_trainer(config, [], enable_checkpointing=False)
    with pytest.raises(ConfigError, match="needs SAM2LightningDataModule"):
        trainer.fit(SAM2LightningModule(config), DataLoader(data.train_dataset, collate_fn=collate_fn))
