"""The loggers that a configuration asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sam2vt.config import Config
from sam2vt.errors import ConfigError

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


def build_loggers(config: Config) -> list[Logger]:
    """W&B where it is asked for, else TensorBoard."""
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    if not config.use_wandb:
        return [TensorBoardLogger(config.output_dir, name="", version="tensorboard")]
    try:
        return [WandbLogger(project=config.wandb_project, name=config.name, save_dir=config.output_dir)]
    except ModuleNotFoundError as error:
        raise ConfigError("use_wandb=true: wandb is not installed; `pip install 'sam2vt[wandb]'`") from error
