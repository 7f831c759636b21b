"""A frozen encoder's features of the training videos, computed ahead: `sam2vt cache-features`"""

from __future__ import annotations

from collections.abc import Sequence

from sam2vt.composing import compose_config
from sam2vt.configuration.loading import load_config
from sam2vt.errors import ConfigError
from sam2vt.train import setup_logging


def cache_features(overrides: Sequence[str] = ()) -> str:
    """Fills the cache that `sam2vt train` would read with these overrides; returns its folder.

    Raises ConfigError, DataError or CheckpointError for what cannot be used.
    """
    config = load_config(compose_config(overrides))
    setup_logging(config.log_level)
    if config.dataset.feature_cache is None:
        raise ConfigError("dataset.feature_cache=null: say where features go: a folder, a URI, or auto")
    from sam2vt.core.model.device import resolve_device
    from sam2vt.core.training.trainer import SAM2LightningDataModule, SAM2LightningModule

    module, data = SAM2LightningModule(config), SAM2LightningDataModule(config)
    data.setup()
    module.setup()
    module.to(resolve_device("cpu" if config.trainer.accelerator == "cpu" else config.model.device))
    return data.use_features(module.model)
