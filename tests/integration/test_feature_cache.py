"""Whole trainings from a feature cache, locally and on Ray: what is computed, found, and comes of it."""

from __future__ import annotations

import copy
import csv
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from sam2vt import cli
from sam2vt.config import Config
from sam2vt.core.model.sam2 import SAM2Model
from sam2vt.distributed.cluster.session import LOCAL_ENVIRONMENT, sigterm_as_before
from sam2vt.distributed.launch import fit
from sam2vt.errors import DataError
from sam2vt.train import train


@pytest.fixture(scope="module")
def running_ray() -> Iterator[None]:
    for name, value in LOCAL_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with sigterm_as_before():
        ray.init(
            address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
        yield
        ray.shutdown()


def config_in(tiny_config: Config, folder: Path, cache: Path | None) -> Config:
    config = copy.deepcopy(tiny_config)
    config.output_dir = str(folder)
    config.trainer.max_epochs = 2
    config.dataset.feature_cache = None if cache is None else str(cache)
    config.ray.num_workers = 1
    return config


def rows(config: Config) -> list[dict[str, str]]:
    with (Path(config.output_dir) / "results.csv").open() as file:
        return list(csv.DictReader(file))


def files(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in cache.rglob("*.parquet")}


def same_scores(one: Config, two: Config) -> None:
    first, second = rows(one), rows(two)
    assert len(first) == len(second) == 3
    for a, b in zip(first, second):
        assert float(a["val/loss"]) == pytest.approx(float(b["val/loss"]), rel=1e-2)
        assert a["step"] == b["step"]


def test_a_training_computes_its_cache_and_scores_as_without(tiny_config, tmp_path, monkeypatch):
    cache = tmp_path / "features"
    plain = config_in(tiny_config, tmp_path / "plain", None)
    first = config_in(tiny_config, tmp_path / "first", cache)
    train(plain)
    train(first)
    same_scores(plain, first)
    written = files(cache)
    assert len(written) == 3
    monkeypatch.setattr(SAM2Model, "keep", None)
    again = config_in(tiny_config, tmp_path / "again", cache)
    train(again)
    assert [row["val/loss"] for row in rows(again)] == [row["val/loss"] for row in rows(first)]
    assert files(cache) == written


def test_a_run_goes_on_without_its_cache_and_with_it(tiny_config, tmp_path):
    cache = tmp_path / "features"
    config = config_in(tiny_config, tmp_path / "run", cache)
    config.trainer.max_epochs = 1
    train(config)
    config.trainer.max_epochs, config.dataset.feature_cache, config.resume = 2, None, "auto"
    assert train(config).global_step == 6
    config.trainer.max_epochs, config.dataset.feature_cache = 3, str(cache)
    assert train(config).global_step == 9


def test_the_verb_computes_what_a_training_reads(tiny_config, tmp_path, capsys, monkeypatch):
    cache = tmp_path / "features"
    config = config_in(tiny_config, tmp_path / "run", cache)
    overrides = [
        "model=nano",
        "trainer=cpu",
        "model.image_size=64",
        "model.trainable_modules=[memory_attention,memory_encoder,mask_decoder]",
        "max_objects=2",
        "seed=7",
        f"dataset.data_path={config.dataset.data_path}",
    ]
    with pytest.raises(SystemExit) as end:
        cli.main(["cache-features", *overrides])
    assert end.value.code == 2
    assert "dataset.feature_cache=null: say where" in capsys.readouterr().err
    cli.main(["cache-features", *overrides, f"dataset.feature_cache={cache}"])
    written = files(cache)
    assert len(written) == 3
    assert f"features: {cache}/" in capsys.readouterr().out
    monkeypatch.setattr(SAM2Model, "keep", None)
    train(config)
    assert files(cache) == written


@pytest.mark.cluster
def test_on_ray_it_is_computed_by_actors_and_found_by_both_engines(
    tiny_config, tmp_path, running_ray, monkeypatch
):
    cache = tmp_path / "features"
    plain = config_in(tiny_config, tmp_path / "plain", None)
    train(plain)
    on_ray = config_in(tiny_config, tmp_path / "ray", cache)
    monkeypatch.setattr(SAM2Model, "keep", None)  # in this process
    fit(on_ray)
    same_scores(plain, on_ray)
    written = files(cache)
    assert len(written) == 3
    train(config_in(tiny_config, tmp_path / "local", cache))
    assert files(cache) == written


@pytest.mark.cluster
def test_on_ray_a_video_that_cannot_be_read_ends_the_run_with_its_name(tiny_config, tmp_path, running_ray):
    config = config_in(tiny_config, tmp_path / "run", tmp_path / "features")
    videos = Path(config.dataset.data_path)
    config.dataset.data_path = str(tmp_path / "videos")
    for path in sorted(videos.rglob("*")):
        target = tmp_path / "videos" / path.relative_to(videos)
        target.mkdir(parents=True) if path.is_dir() else target.write_bytes(path.read_bytes())
    broken = next(path for path in sorted((tmp_path / "videos").rglob("*.jpg")))
    broken.write_bytes(broken.read_bytes()[:-200])
    with pytest.raises(DataError, match=broken.name):
        fit(config)
    assert Path(config.dataset.feature_cache).is_dir()
    assert not (tmp_path / "run" / "results.csv").exists()
