"""The table of loggers: which ones are chosen, and one message where a package or a store is missing."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path

import pytest

from sam2vt.config import Config, TrainerConfig
from sam2vt.core.training import loggers
from sam2vt.core.training.loggers import LOGGERS, build_loggers, check_store, store_of
from sam2vt.errors import ConfigError
from sam2vt.health import packages


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize(
    ("settings", "chosen"),
    [
        ({}, ["tensorboard"]),
        ({"use_wandb": True}, ["wandb"]),
        ({"loggers": ["csv", "tensorboard"]}, ["csv", "tensorboard"]),
        ({"loggers": ["csv", "wandb"], "use_wandb": True}, ["csv", "wandb"]),
        ({"loggers": ["csv"], "use_wandb": True}, ["csv", "wandb"]),
        ({"loggers": ["csv"], "trainer": TrainerConfig(logger=False)}, []),
    ],
)
def test_the_loggers_that_are_chosen(settings, chosen, monkeypatch) -> None:
    monkeypatch.setattr(loggers, "missing", lambda *_: None)
    for name in LOGGERS:
        monkeypatch.setitem(LOGGERS, name, lambda config, name=name: name)
    assert build_loggers(Config(**settings)) == chosen


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_one_message_with_the_line_that_installs_it(name, monkeypatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"{name} is not installed; `pip install .*\[{name}\]'`, or leave"):
        build_loggers(Config(loggers=[name]))


def test_csv_files_of_an_earlier_part_of_the_run_stay(tmp_path: Path) -> None:
    config = Config(loggers=["csv"], output_dir=str(tmp_path / "run"))
    for name in ("csv", "csv-2"):
        (logger,) = build_loggers(config)
        logger.log_metrics({"val/J&F": 0.5}, step=3)
        logger.finalize("success")
        assert (tmp_path / "run" / name / "metrics.csv").read_text() == "step,val/J&F\n3,0.5\n"


def test_the_store_of_mlflow(tmp_path: Path, monkeypatch) -> None:
    assert store_of(Config()) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert store_of(Config()) == "http://host:5000"
    assert store_of(Config(mlflow_uri="sqlite:///a.db?timeout=9")) == f"sqlite:///{tmp_path}/a.db?timeout=9"
    assert store_of(Config(mlflow_uri="sqlite:////a.db")) == "sqlite:////a.db"


def fault(uri: str) -> str:
    with pytest.raises(ConfigError) as raised:
        check_store(Config(loggers=["mlflow"], mlflow_uri=uri))
    return str(raised.value)


def test_a_store_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    check_store(Config(loggers=["mlflow"]))
    assert not (tmp_path / "runs" / "mlflow.db").exists()
    with sqlite3.connect("old.db") as connection:
        connection.execute("CREATE TABLE a (b)")
    before = Path("old.db").read_bytes()
    check_store(Config(loggers=["mlflow"], mlflow_uri="sqlite:///old.db"))
    assert Path("old.db").read_bytes() == before
    check_store(Config(mlflow_uri="sqlite:////proc/no/such.db"))  # nobody logs to it


def test_a_store_that_is_locked_is_one_message(monkeypatch) -> None:
    monkeypatch.setattr(loggers, "_SECONDS", 0.01)
    other = sqlite3.connect("locked.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert "locked.db: database is locked; give a file" in fault("sqlite:///locked.db")
    other.close()


def test_a_store_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("no database, but a text that is long enough to be told from one\n" * 20)
    assert "unable to open database file" in fault("sqlite:///folder")
    assert "file is not a database" in fault("sqlite:///text")
    assert "Not a directory" in fault("sqlite:///text/mlflow.db") or "File exists" in fault(
        "sqlite:///text/mlflow.db"
    )


def test_a_server_that_does_not_answer_is_one_message(monkeypatch) -> None:
    monkeypatch.setattr(loggers, "getproxies", dict)  # a proxy would be asked instead
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert f"mlflow_uri=http://127.0.0.1:{port}: Connection refused; give" in fault(
        f"http://127.0.0.1:{port}"
    )
    assert "port" in fault("http://127.0.0.1:many").lower()
    assert "http://me:***@127.0.0.1" in fault(f"http://me:secret@127.0.0.1:{port}")
