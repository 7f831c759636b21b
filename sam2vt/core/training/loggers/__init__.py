"""Table of the loggers that a configuration can select.

A new logger is a row of `LOGGERS`, and of `LOGGER_PACKAGES` in `sam2vt.config`. Importing this module loads
none of them.
"""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies

from sam2vt.config import LOGGER_PACKAGES, Config
from sam2vt.errors import ConfigError
from sam2vt.health.packages import missing
from sam2vt.settings import without_passwords

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

_DEFAULT_STORE = "sqlite:///runs/mlflow.db"
_SQLITE = "sqlite:///"
_SECONDS = 5.0  # in which a lock may be released, or a server answer


def _tensorboard(config: Config) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    # Lightning's default metric of the hyperparameters would be a curve of one point, -1.
    return TensorBoardLogger(config.output_dir, name="", version="tensorboard", default_hp_metric=False)


def _csv(config: Config) -> Logger:
    from lightning.pytorch.loggers import CSVLogger

    # Lightning would delete what the run has written before it was resumed.
    names = (f"csv-{number}" if number > 1 else "csv" for number in count(1))
    free = next(name for name in names if not (Path(config.output_dir) / name / "metrics.csv").exists())
    return CSVLogger(config.output_dir, name="", version=free)


def _wandb(config: Config) -> Logger:
    from sam2vt.core.training.loggers.runs import WandbRun

    return WandbRun(config)


def _mlflow(config: Config) -> Logger:
    from sam2vt.core.training.loggers.runs import MlflowRun

    store = store_of(config)
    return MlflowRun(config, store, sqlite_file(store))


LOGGERS: dict[str, Callable[[Config], Logger]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "csv": _csv,
}


def build_loggers(config: Config) -> list[Logger]:
    """Return the loggers that the configuration selects; they open their stores when the fit begins.

    Raises ConfigError if a package is not installed.
    """
    return [_built(name, config) for name in config.chosen_loggers]


def _built(name: str, config: Config) -> Logger:
    if (fault := missing(LOGGER_PACKAGES[name])) is not None:
        raise ConfigError(f"loggers: {fault}, or leave {name} out")
    return LOGGERS[name](config)


def store_of(config: Config) -> str:
    """Return the address of MLflow's store; that of a file of SQLite is absolute."""
    uri = config.mlflow_uri or os.environ.get("MLFLOW_TRACKING_URI") or _DEFAULT_STORE
    path = sqlite_file(uri)
    return uri if path is None else "".join([_SQLITE, str(path.absolute()), *uri.partition("?")[1:]])


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a store of SQLite; None for another store."""
    if not uri.startswith(_SQLITE):
        return None
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]).expanduser()


def check_store(config: Config) -> None:
    """Raise ConfigError if MLflow's store is locked, cannot be written or does not answer.

    MLflow itself would try again for minutes; it is not loaded.
    """
    if "mlflow" not in config.chosen_loggers:
        return
    uri = store_of(config)
    path, server = sqlite_file(uri), urlsplit(uri)
    try:
        if path is not None:
            _try_to_write(path)
        elif server.scheme in ("http", "https") and server.scheme not in getproxies():
            port = server.port or (443 if server.scheme == "https" else 80)
            socket.create_connection((server.hostname or "", port), timeout=_SECONDS).close()
    except (OSError, sqlite3.Error, ValueError) as error:
        raise ConfigError(
            f"mlflow_uri={without_passwords(uri)}: {getattr(error, 'strerror', None) or error}; give a file "
            f"that can be written and that no other program locks, such as {_DEFAULT_STORE}, or the address "
            f"of a server that runs, or leave mlflow out of loggers"
        ) from error


def _try_to_write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():  # left to MLflow: another run may be making it
        TemporaryFile(dir=path.parent).close()
        return
    with closing(sqlite3.connect(path, timeout=_SECONDS, isolation_level=None)) as connection:
        connection.execute("PRAGMA schema_version")  # raises for a file of another kind
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
