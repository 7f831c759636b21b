"""Pictures and checkpoints of a run, for the loggers that take them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from PIL import Image

from sam2vt.core.training.loggers.runs import MlflowRun

CHECKPOINTS = "checkpoints"  # MLflow's folder of them


@singledispatch
def log_picture(logger: Logger, name: str, path: Path, step: int) -> None:
    """Show the picture in a file under a name with one `/`; a logger of values alone does nothing."""


@log_picture.register
def _(logger: TensorBoardLogger, name: str, path: Path, step: int) -> None:
    pixels = np.asarray(Image.open(path).convert("RGB"))
    logger.experiment.add_image(name, pixels, step, dataformats="HWC")


@log_picture.register
def _(logger: WandbLogger, name: str, path: Path, step: int) -> None:
    logger.log_image(name, [str(path)], step)


@log_picture.register
def _(logger: MlflowRun, name: str, path: Path, step: int) -> None:
    logger.log_file(path, name.partition("/")[0])


@singledispatch
def log_checkpoint(logger: Logger, path: Path, about: Mapping[str, Any]) -> None:
    """Store a checkpoint under the name of its file, with what is known about it."""


@log_checkpoint.register
def _(logger: WandbLogger, path: Path, about: Mapping[str, Any]) -> None:
    import wandb

    run = logger.experiment
    artifact = wandb.Artifact(f"model-{run.id}", "model", metadata=dict(about))
    artifact.add_file(str(path), name=path.name)  # a copy: the file may be replaced before it is uploaded
    run.log_artifact(artifact, aliases=[path.stem])


@log_checkpoint.register
def _(logger: MlflowRun, path: Path, about: Mapping[str, Any]) -> None:
    logger.log_file(path, CHECKPOINTS)
    logger.log_metrics({f"{path.stem}/{name}": value for name, value in about.items()}, int(about["step"]))
