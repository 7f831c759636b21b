"""The runs of W&B and MLflow: they are named, grouped, continued when a run resumes, and ended with it."""

from __future__ import annotations

import json
import logging
import re
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from time import time
from typing import Any

from lightning.fabric.utilities.logger import _convert_params, _flatten_dict
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from sam2vt.config import Config
from sam2vt.core.storage.disk import write_whole
from sam2vt.errors import ConfigError
from sam2vt.settings import without_passwords

log = logging.getLogger(__name__)

IDS = "loggers.json"  # in the run folder: under which ids the run is known elsewhere
GROUP = "group"  # the tag of MLflow
_BATCH = 100  # parameters that MLflow takes at once
_LONGEST = 500  # characters of a parameter's value that all its versions take
_NOT_IN_A_NAME = re.compile(r"[^\w/. -]+", re.ASCII)  # MLflow refuses such names


def run_name(config: Config) -> str:
    """Return the name of a run; one of a group has its folder's name, too, since all have the same `name`."""
    names = [config.name, Path(config.output_dir).name] if config.group else [config.name]
    return " · ".join(dict.fromkeys(names))


class WandbRun(WandbLogger):
    """A run of W&B. It ends with the fit: a later fit in the same process would be logged into it."""

    def __init__(self, config: Config) -> None:
        self._config, self._place = config, f"wandb {config.wandb_project}"
        super().__init__(
            project=config.wandb_project,
            name=run_name(config),
            group=config.group,
            save_dir=config.output_dir,
            id=_known_id(config, self._place),
        )
        self._wandb_init.pop("anonymous", None)  # W&B warns of it, even if it is not set

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Return W&B's run; the first call begins it. Raises ConfigError where W&B refuses."""
        if self._experiment is not None:
            return self._experiment
        import wandb

        Path(self._config.output_dir).mkdir(parents=True, exist_ok=True)
        try:
            begun = super().experiment
        except (wandb.Error, OSError) as error:
            raise ConfigError(
                f"loggers: W&B cannot begin a run: {str(error).rstrip('.')}. Log in with `wandb login` or "
                f"WANDB_API_KEY, see that its server answers, or set WANDB_MODE=offline and upload the run "
                f"later with `wandb sync`"
            ) from error
        self._id = self._wandb_init["id"] = begun.id  # for a further fit with this logger
        _note_id(self._config, self._place, begun.id)
        return begun

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End W&B's run; what waits is uploaded."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)
        self._experiment = None


class MlflowRun(Logger):
    """A run in MLflow's store. Once it has begun, what the store refuses is a warning: the training goes on.

    Names lack the characters that MLflow does not take: `val/J&F` is `val/JF` there.
    """

    def __init__(self, config: Config, store: str, database: Path | None) -> None:
        super().__init__()
        self._config, self._store = config, store
        self._place = f"mlflow {without_passwords(store)} {config.mlflow_experiment}"
        self._database, self._experiment_name = database, config.mlflow_experiment
        self._run_name, self._tags = run_name(config), {"folder": str(Path(config.output_dir).absolute())}
        if config.group:
            self._tags[GROUP] = config.group
        self._client: Any = None
        self._run_id: str | None = None
        self._continues = self._has_failed = False

    @property
    def name(self) -> str:
        """Return the name of the experiment."""
        return self._experiment_name

    @property
    def version(self) -> str | None:
        """Return the id of the run; None before it begins."""
        return self._run_id

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Return MLflow's client; the first call begins the run. Raises ConfigError where MLflow refuses."""
        if self._client is None:
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            try:
                self._client = self._begin()
            except (MlflowException, SQLAlchemyError, OSError) as error:
                text = (
                    f"mlflow_uri={self._store}: MLflow cannot begin a run in mlflow_experiment="
                    f"{self._experiment_name}: {str(error).rstrip('.')}. Give another store, such as "
                    f"sqlite:///runs/mlflow.db, or another experiment, or leave mlflow out of loggers"
                )
                raise ConfigError(without_passwords(text)) from None  # MLflow repeats the address
        return self._client

    def _begin(self) -> Any:
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells how it makes its tables
        client, known = MlflowClient(self._store), _known_id(self._config, self._place)
        if known is not None:
            client.update_run(known, status="RUNNING")
            self._run_id, self._continues = known, True
            return client
        run = client.create_run(self._experiment_id(client), tags=self._tags, run_name=self._run_name)
        self._run_id = run.info.run_id
        _note_id(self._config, self._place, run.info.run_id)
        return client

    def _experiment_id(self, client: Any) -> str:
        from mlflow.exceptions import MlflowException

        # MLflow would keep the files of a store of SQLite in the working directory.
        beside = self._database and self._database.with_suffix(".files").as_uri()
        if (found := client.get_experiment_by_name(self.name)) is None:
            try:
                return client.create_experiment(self.name, artifact_location=beside)
            except MlflowException:  # another run has created it meanwhile
                if (found := client.get_experiment_by_name(self.name)) is None:
                    raise
        return found.experiment_id

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Log the configuration; a run that is continued keeps the one that it began with."""
        from mlflow.entities import Param

        flat = _flatten_dict(_convert_params(params))
        found = [Param(_allowed(name), str(value)[:_LONGEST]) for name, value in flat.items()]
        client = self.experiment
        for start in range(0, 0 if self._continues else len(found), _BATCH):
            some = found[start : start + _BATCH]
            self._try(lambda some=some: client.log_batch(self._run_id, params=some))  # type: ignore[misc]

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log values at a step."""
        from mlflow.entities import Metric

        now, client = int(time() * 1000), self.experiment
        found = [Metric(_allowed(name), float(value), now, step or 0) for name, value in metrics.items()]
        self._try(lambda: client.log_batch(self._run_id, metrics=found))

    @rank_zero_only
    def log_file(self, path: Path, folder: str) -> None:
        """Store a file among those of the run."""
        client = self.experiment
        self._try(lambda: client.log_artifact(self._run_id, str(path), folder))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End MLflow's run."""
        if self._client is not None:
            ended = "FINISHED" if status == "success" else "FAILED"
            self._try(lambda: self._client.set_terminated(self._run_id, ended))

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # of MLflow, its database or its server: none is worth the training
            if not self._has_failed:
                text = (
                    f"{self._store}: not everything could be logged, such as now: {error}; this is said once"
                )
                log.warning("%s", without_passwords(text))
            self._has_failed = True


def _allowed(name: str) -> str:
    return _NOT_IN_A_NAME.sub("", name)


def _known_id(config: Config, place: str) -> str | None:
    """Return the id by which the run that is resumed is known at a place; None for a new run there."""
    return _ids(config).get(place) if config.resume else None


def _note_id(config: Config, place: str, run_id: str) -> None:
    path = Path(config.output_dir) / IDS
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as written:
        written.write_text(json.dumps({**_ids(config), place: run_id}, indent=1))


def _ids(config: Config) -> dict[str, str]:
    try:
        found = json.loads((Path(config.output_dir) / IDS).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
