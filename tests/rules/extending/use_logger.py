"""Asks for the added logger."""

from sam2vt.config import Config
from sam2vt.configuration.loading import load_config
from sam2vt.core.training.loggers import build_loggers
from sam2vt.errors import ConfigError

(logger,) = build_loggers(Config(use_csv=True))
assert type(logger).__name__ == "CSVLogger"
assert type(build_loggers(Config())[0]).__name__ == "TensorBoardLogger"
try:
    load_config({"use_csv": True, "trainer": {"logger": False}, "dataset": {"data_path": "."}})
except ConfigError as error:
    (fault,) = error.faults
assert fault.startswith("use_csv=true with trainer.logger=false")
