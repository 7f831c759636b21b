"""A whole run with several trackers; each store is read back: names, steps, overlays, the best checkpoint."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sam2vt.config import Config
from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.train import train
from tests.integration import wandb_files

OVERLAY = "overlays/sample_00"
VALIDATED = [0, 3]  # steps


@pytest.fixture(scope="module")
def run(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("tracked")
    config = copy.deepcopy(tiny_config)
    config.output_dir = str(folder / "run")
    config.trainer.logger, config.trainer.num_overlay_videos = True, 1
    config.loggers, config.mlflow_uri = ["csv", "wandb", "mlflow"], f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}.items():
            patch.setenv(name, value)
        for name in ("DATA", "CACHE", "CONFIG"):
            patch.setenv(f"WANDB_{name}_DIR", str(folder / name))
        train(config)
    return config


@pytest.fixture
def rows(run: Config) -> list[dict[str, str]]:
    with open(Path(run.output_dir) / "results.csv") as file:
        return list(csv.DictReader(file))


def same(values: dict[int, float], rows: list[dict[str, str]], name: str = "val/J&F") -> bool:
    """Whether a tracker has the values of results.csv, at its steps."""
    assert list(values) == VALIDATED
    return all(values[int(row["step"])] == pytest.approx(float(row[name]), abs=1e-5) for row in rows)


def best_of(run: Config) -> Any:
    return CheckpointStore(str(run.checkpoint_dir)).best()


def test_csv(run: Config, rows) -> None:
    with (Path(run.output_dir) / "csv" / "metrics.csv").open() as file:
        logged = [row for row in csv.DictReader(file) if row["val/J&F"]]
    assert same({int(row["step"]): float(row["val/J&F"]) for row in logged}, rows)
    assert not (Path(run.output_dir) / "tensorboard").exists()  # it was not named


def test_wandb(run: Config, rows) -> None:
    folder = Path(run.output_dir)
    logged = wandb_files.rows(folder)
    values = {row["trainer/global_step"]: row["val/J&F"] for row in logged if "val/J&F" in row}
    assert same(values, rows)
    assert {"train/loss", "train/lr", "val/loss"} <= {name for row in logged for name in row}
    assert wandb_files.config(folder)["config"]["optimizer"]["lr"] == 1e-3
    (shown,) = [row for row in logged if f"{OVERLAY}.filenames" in row]
    (name,) = shown[f"{OVERLAY}.filenames"]
    (picture,) = (folder / "wandb").glob(f"offline-run-*/files/{name}")
    assert Image.open(picture).size == Image.open(folder / f"{OVERLAY}.png").size
    (artifact,) = wandb_files.records(folder, "artifact")
    (file,) = artifact.manifest.contents
    assert (artifact.type, file.path, "best" in artifact.aliases) == ("model", "best.ckpt", True)
    assert json.loads(artifact.metadata)["score"] == pytest.approx(best_of(run).score)
    stored = torch.load(file.local_path, weights_only=True)
    assert stored["global_step"] == best_of(run).step


def test_mlflow(run: Config, rows) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(run.mlflow_uri)
    experiment = client.get_experiment_by_name(run.mlflow_experiment)
    (found,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(found.info.run_id, "val/JF")
    assert same({each.step: each.value for each in history}, rows)
    assert {"train/loss", "train/lr", "val/loss"} <= found.data.metrics.keys()
    assert found.data.params["config/optimizer/lr"] == "0.001"
    assert found.info.status == "FINISHED"
    folder = Path(client.download_artifacts(found.info.run_id, ""))
    drawn = Path(run.output_dir, f"{OVERLAY}.png")
    assert (folder / f"{OVERLAY}.png").read_bytes() == drawn.read_bytes()
    stored = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert stored["global_step"] == best_of(run).step
    assert found.data.metrics["best/score"] == pytest.approx(best_of(run).score)
