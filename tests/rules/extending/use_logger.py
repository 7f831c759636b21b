"""Asks for the added logger, beside another one."""

import sys
from pathlib import Path

from sam2vt.config import Config
from sam2vt.configuration.loading import load_config
from sam2vt.core.training.loggers import build_loggers
from sam2vt.errors import ConfigError

folder = Path(sys.argv[1]) / "run"
lines, other = build_loggers(Config(loggers=["lines", "tensorboard"], output_dir=str(folder)))
lines.log_metrics({"val/J&F": 0.5}, step=3)
assert (folder / "values.jsonl").read_text() == '{"step": 3, "val/J&F": 0.5}\n'
assert type(other).__name__ == "TensorBoardLogger"
try:
    load_config({"loggers": ["lines"], "trainer": {"logger": False}, "dataset": {"data_path": "."}})
except ConfigError as error:
    (fault,) = error.faults
assert fault.startswith("loggers=['lines'] with trainer.logger=false")
