"""Asks for the added logger."""

from sam2vt.config import Config
from sam2vt.core.training.loggers import build_loggers

(logger,) = build_loggers(Config(use_csv=True))
assert type(logger).__name__ == "CSVLogger"
assert type(build_loggers(Config())[0]).__name__ == "TensorBoardLogger"
