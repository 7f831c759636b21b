"""Table of the loggers that a configuration can select.

A new logger is a row of `LOGGERS` and its setting in `config.Config`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sam2vt.config import Config
from sam2vt.errors import ConfigError
from sam2vt.settings import value_at

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


@dataclass(frozen=True)
class LoggerKind:
    """A row of the table."""

    build: Callable[[Config], Logger]  # raises ModuleNotFoundError where its package is missing
    setting: str  # dotted name of the true-or-false setting that asks for it; it needs trainer.logger
    install: str  # command that installs its package


def _tensorboard(config: Config) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    # Lightning's default metric of the hyperparameters would be a curve of one point, -1.
    return TensorBoardLogger(config.output_dir, name="", version="tensorboard", default_hp_metric=False)


def _wandb(config: Config) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(project=config.wandb_project, name=config.name, save_dir=config.output_dir)


LOGGERS = {
    "tensorboard": LoggerKind(_tensorboard, "trainer.logger", "pip install tensorboard"),
    "wandb": LoggerKind(_wandb, "use_wandb", "pip install 'sam2vt[wandb]'"),
}
DEFAULT = "tensorboard"  # where no other one is asked for


def build_loggers(config: Config) -> list[Logger]:
    """Return the loggers that the configuration selects, else TensorBoard's.

    Raises ConfigError if a package is not installed.
    """
    wanted = [name for name, kind in LOGGERS.items() if name != DEFAULT and value_at(config, kind.setting)]
    return [_built(name, config) for name in wanted or [DEFAULT]]


def _built(name: str, config: Config) -> Logger:
    kind = LOGGERS[name]
    try:
        return kind.build(config)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{kind.setting}=true: {name} is not installed; `{kind.install}`, or set {kind.setting}=false"
        ) from error
