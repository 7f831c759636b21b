"""`sam2vt cache-features`: a frozen encoder's features of the training videos, computed ahead."""

from __future__ import annotations

import argparse

from sam2vt.commands.arguments import add_overrides
from sam2vt.composing import load_overrides
from sam2vt.errors import ConfigError
from sam2vt.logs import setup_logging


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_overrides(parser, "dataset.feature_cache=auto, which has to be given")


def run(options: argparse.Namespace) -> None:
    """Fill the cache that `sam2vt train` would read with these overrides, and print its folder.

    Raises ConfigError, DataError or CheckpointError for what cannot be used.
    """
    config = load_overrides(options.overrides)
    setup_logging(config.log_level)
    if config.dataset.feature_cache is None:
        raise ConfigError("dataset.feature_cache=null: say where features go: a folder, a URI, or auto")
    # Late: a fault of the configuration is said without loading torch.
    from sam2vt.core.model.execution import resolve_device
    from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule

    module, data = SAM2LightningModule(config), SAM2LightningDataModule(config)
    data.setup()
    module.setup()
    module.to(resolve_device("cpu" if config.trainer.accelerator == "cpu" else config.model.device))
    print(f"features: {data.use_features(module.model)}")
