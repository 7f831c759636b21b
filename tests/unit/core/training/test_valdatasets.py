"""Further validation sets beside `valdataset`: each is scored as if it were the only one."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from sam2vt.config import Config
from sam2vt.core.data.opening import open_run
from sam2vt.core.data.writing.sample_data import write_sample_data
from sam2vt.core.training.preflight import check_training
from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule
from sam2vt.errors import ConfigError, DataError

from .test_trainer import make_trainer


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    """Two other videos."""
    folder = tmp_path_factory.mktemp("other") / "data"
    write_sample_data(folder, num_videos=2, num_frames=5, size=(48, 64), seed=9)
    return folder


def validated(config: Config, tmp_path: Path) -> tuple[dict[str, float], SAM2LightningModule]:
    module, data = SAM2LightningModule(config), SAM2LightningDataModule(config)
    trainer = make_trainer(tmp_path)
    trainer.validate(module, datamodule=data, verbose=False)
    values = trainer.callback_metrics.items()
    return {name: float(value) for name, value in values if name.startswith("val/")}, module


def test_each_set_scores_as_the_only_one(config, other, tmp_path) -> None:
    alone, _ = validated(config, tmp_path)
    elsewhere = copy.deepcopy(config)
    elsewhere.valdataset.data_path = str(other)
    elsewhere.valdataset.prompt_types = ["box"]
    expected, _ = validated(elsewhere, tmp_path)

    config.valdatasets = {
        "davis": {"data_path": str(other), "prompt_types": ["box"]},
        "same": {"score_first_and_last": True},
    }
    found, module = validated(config, tmp_path)
    assert {name: found[name] for name in alone} == alone
    davis = {name.replace("val/davis/", "val/"): value for name, value in found.items() if "/davis/" in name}
    assert davis == expected
    assert {"val/loss", "val/bce", "val/J&F", "val/J&F_hold_first"} <= davis.keys()
    assert found["val/same/loss"] == alone["val/loss"]
    assert [each.name for each in module.val_sets] == ["", "davis", "same"]
    assert [len({score.video_id for score in each.scores}) for each in module.val_sets] == [3, 2, 3]
    assert module.last_scores == module.val_sets[0].scores
    frames = [sum(score.num_frames for score in module.val_sets[place].scores) for place in (0, 2)]
    assert frames[0] < frames[1]  # the first and the last, too


def test_a_set_without_data_shares_the_videos(config, other) -> None:
    config.split, config.val_fraction = "video", 0.4
    config.valdatasets = {"clicks": {"prompt_types": ["point"]}, "davis": {"data_path": str(other)}}
    records = open_run(config)
    assert records.further["clicks"] is records.val
    assert [len(each) for each in (records.train, records.val, records.further["davis"])] == [2, 1, 2]


def test_records_of_a_run_may_lack_the_further_sets(config, other) -> None:
    config.valdatasets = {"davis": {"data_path": str(other)}}
    train, val, _ = open_run(config)
    data = SAM2LightningDataModule(config, (train, val))
    data.setup("validate")
    assert len(data.val_dataloader()) == 4
    assert open_run(config, (train, val)).train is train


def test_a_set_that_cannot_be_validated_is_refused_by_its_name(config, other, tmp_path) -> None:
    config.valdatasets = {"davis": {"data_path": str(tmp_path)}}
    with pytest.raises(DataError, match=r"^valdatasets\.davis: "):
        open_run(config)
    config.valdatasets = {"davis": {"data_path": str(other)}}
    config.trainer.limit_val_batches = 0.4  # of three videos one, of two none
    with pytest.raises(ConfigError, match="the batches of validation clips on a rank") as refused:
        check_training(config, open_run(config), 1)
    assert "valdatasets.davis" in str(refused.value)


def test_a_set_of_two_frames_has_nothing_to_score(config, tmp_path) -> None:
    write_sample_data(tmp_path / "short", num_videos=1, num_frames=3, size=(48, 64))
    for kind in ("JPEGImages", "Annotations"):
        sorted((tmp_path / "short" / kind / "sample_00").iterdir())[-1].unlink()
    config.valdatasets = {"short": {"data_path": str(tmp_path / "short")}}
    with pytest.raises(DataError, match=r"valdatasets\.short's .*: none has enough") as refused:
        check_training(config, open_run(config), 1)
    assert "set valdatasets.short.score_first_and_last=true" in str(refused.value)
