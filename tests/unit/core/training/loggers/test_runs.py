"""Runs of W&B and MLflow: named, grouped, continued, ended; a store that fails costs no training."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.utilities import rank_zero_only

from sam2vt.config import Config
from sam2vt.core.training.loggers import build_loggers
from sam2vt.core.training.loggers.runs import IDS, run_name
from sam2vt.errors import ConfigError
from tests.integration import wandb_files

PARAMS = {"config": {"optimizer": {"lr": 1e-4, "betas": [0.9, 0.999]}, "name": "first"}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store that has its tables: to make them takes seconds."""
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    MlflowClient(uri).search_experiments(max_results=1)
    return uri


@pytest.fixture
def mlflow(store: str, tmp_path: Path) -> Config:
    return Config(
        loggers=["mlflow"],
        mlflow_uri=store,
        mlflow_experiment=tmp_path.name,
        output_dir=str(tmp_path / "run"),
    )


@pytest.fixture
def wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    for name, value in {"MODE": "offline", "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))
    return Config(loggers=["wandb"], wandb_project="surgery", name="first", output_dir=str(tmp_path / "run"))


def logger_of(config: Config) -> Any:
    (logger,) = build_loggers(config)
    return logger


def found(config: Config) -> list[Any]:
    """MLflow's runs of the test, the oldest first."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(config.mlflow_uri)
    experiment = client.get_experiment_by_name(config.mlflow_experiment)
    if experiment is None:
        return []
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


def test_a_run_of_a_group_has_its_folder_s_name_too() -> None:
    assert run_name(Config(name="first", output_dir="sweep/trials/trial_003")) == "first"
    grouped = Config(name="first", group="sweep", output_dir="sweep/trials/trial_003")
    assert run_name(grouped) == "first · trial_003"


def test_mlflow_stores_configuration_values_and_steps(mlflow: Config) -> None:
    logger = logger_of(replace(mlflow, name="first", group="a sweep"))
    logger.log_hyperparams(PARAMS)
    for step in (3, 6):
        logger.log_metrics({"val/J&F": step / 10, "train/lr": 1e-4}, step)
    logger.finalize("success")
    (run,) = found(mlflow)
    assert (run.info.run_name, run.info.status) == ("first · run", "FINISHED")
    assert run.data.tags["group"] == "a sweep"
    assert run.data.params["config/optimizer/lr"] == "0.0001"
    assert run.data.metrics == {"val/JF": 0.6, "train/lr": 1e-4}
    history = logger.experiment.get_metric_history(run.info.run_id, "val/JF")
    assert [(each.step, each.value) for each in history] == [(3, 0.3), (6, 0.6)]


def test_mlflow_continues_the_run_that_is_resumed(mlflow: Config) -> None:
    for lr, config in ((0.1, mlflow), (0.2, replace(mlflow, resume="auto")), (0.3, mlflow)):
        logger = logger_of(config)
        logger.log_hyperparams({"lr": lr})
        logger.log_metrics({"val/J": lr}, int(lr * 10))
        logger.finalize("failed")
    first, second = found(mlflow)  # the third begins anew
    assert [first.data.params["lr"], second.data.params["lr"]] == ["0.1", "0.3"]
    assert [first.data.metrics["val/J"], second.data.metrics["val/J"]] == [0.2, 0.3]
    assert first.info.status == "FAILED"


def test_mlflow_that_fails_later_is_said_once(mlflow: Config, monkeypatch, caplog) -> None:
    logger = logger_of(mlflow)

    def locked(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(type(logger.experiment), "log_batch", locked)
    for step in range(3):
        logger.log_metrics({"a": 1.0}, step)
    assert caplog.text.count("database is locked") == 1
    logger.finalize("success")
    assert found(mlflow)[0].info.status == "FINISHED"


def test_a_store_that_mlflow_refuses_is_one_message(mlflow: Config, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    logger = logger_of(replace(mlflow, mlflow_uri=str(tmp_path / "mlruns")))
    with pytest.raises(ConfigError, match="MLFLOW_ALLOW_FILE_STORE"):  # MLflow before 3.17 writes folders
        _ = logger.experiment
    logger.finalize("failed")  # as Lightning does after an error


def test_no_message_contains_a_password(mlflow: Config, monkeypatch, caplog) -> None:
    """A configuration has none, but MLFLOW_TRACKING_URI may, and MLflow's errors repeat the address."""
    from mlflow.exceptions import MlflowException

    def refuse(*_: Any, **__: Any) -> None:
        raise MlflowException("API request to http://me:secret@host:5000/api failed")

    logger = logger_of(replace(mlflow, mlflow_uri="http://me:secret@host:5000"))
    logger._client, logger._run_id = SimpleNamespace(log_batch=refuse), "1"
    logger.log_metrics({"a": 1.0}, 1)
    logger._client = None
    monkeypatch.setattr(type(logger), "_begin", refuse)
    with pytest.raises(ConfigError, match=r"me:\*\*\*@host.*me:\*\*\*@host") as raised:
        _ = logger.experiment
    assert caplog.text.count("me:***@host") == 2
    assert "secret" not in caplog.text + str(raised.value) + logger._place


def test_an_experiment_that_was_deleted_is_one_message(mlflow: Config) -> None:
    logger = logger_of(mlflow)
    client = logger.experiment
    client.delete_experiment(client.get_experiment_by_name(mlflow.mlflow_experiment).experiment_id)
    with pytest.raises(ConfigError, match="MLflow cannot begin a run in .*deleted. Give another"):
        _ = logger_of(mlflow).experiment


def test_the_first_rank_alone_logs(mlflow: Config, monkeypatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = logger_of(mlflow)
    _ = logger.experiment
    logger.log_hyperparams(PARAMS)
    logger.log_metrics({"val/J&F": 0.5}, 3)
    logger.finalize("success")
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    assert found(mlflow) == []


def test_the_files_of_a_database_are_beside_it(mlflow: Config, tmp_path: Path) -> None:
    logger = logger_of(mlflow)
    (tmp_path / "mine.png").write_bytes(b"picture")
    logger.log_file(tmp_path / "mine.png", "overlays")
    (run,) = found(mlflow)
    assert run.info.artifact_uri.startswith(f"file://{Path(mlflow.mlflow_uri[10:]).parent}/mlflow.files/")
    assert [each.path for each in logger.experiment.list_artifacts(run.info.run_id, "overlays")] == [
        "overlays/mine.png"
    ]


def test_wandb_offline_stores_configuration_values_and_steps(wandb: Config) -> None:
    logger = logger_of(replace(wandb, group="a sweep"))
    logger.log_hyperparams(PARAMS)
    for step in (3, 6):
        logger.log_metrics({"val/J&F": step / 10}, step)
    logger.finalize("success")
    folder = Path(wandb.output_dir)
    (run,) = wandb_files.records(folder, "run")
    assert (run.project, run.display_name, run.run_group) == ("surgery", "first · run", "a sweep")
    assert wandb_files.config(folder)["config"]["optimizer"]["lr"] == 1e-4
    rows = [(row["trainer/global_step"], row["val/J&F"]) for row in wandb_files.rows(folder)]
    assert rows == [(3, 0.3), (6, 0.6)]
    assert wandb_files.records(folder, "exit")[0].exit_code == 0


def test_wandb_continues_the_run_that_is_resumed_and_no_other(wandb: Config) -> None:
    for config in (wandb, replace(wandb, resume="auto"), wandb):
        logger = logger_of(config)
        logger.log_metrics({"val/J": 0.5}, 1)
        logger.finalize("failed")
    ids = {run.run_id for run in wandb_files.records(Path(wandb.output_dir), "run")}
    assert len(ids) == 2
    known = json.loads((Path(wandb.output_dir) / IDS).read_text())
    assert known["wandb surgery"] in ids
    assert {each.exit_code for each in wandb_files.records(Path(wandb.output_dir), "exit")} == {1}


def test_wandb_that_refuses_is_one_message(wandb: Config, monkeypatch) -> None:
    import wandb as package

    def refuse(**_: Any) -> None:
        raise package.errors.UsageError("No API key configured.")

    monkeypatch.setattr(package, "init", refuse)
    logger = logger_of(wandb)
    with pytest.raises(ConfigError, match="W&B cannot begin a run: No API key.*WANDB_MODE=offline"):
        _ = logger.experiment
    logger.finalize("failed")


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000])
def test_a_file_of_ids_that_is_damaged_gives_a_new_run(tmp_path: Path, content: str) -> None:
    from sam2vt.core.training.loggers import runs

    (tmp_path / IDS).write_text(content)
    config = SimpleNamespace(resume="auto", output_dir=str(tmp_path))
    assert runs._known_id(config, "wandb a") is None  # type: ignore[arg-type]
