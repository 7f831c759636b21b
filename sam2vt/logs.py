"""Lines of the log: how they begin, the numbers in them, and the first one of a run."""

from __future__ import annotations

import logging
import os
import posixpath
import re
from pathlib import Path
from typing import Any

from sam2vt.config import HF_CONFIG, HF_WEIGHTS, Config
from sam2vt.settings import require

_TIME = "%H:%M:%S"
_WEIGHTS = re.compile(r"([^/@]+)(@[^/]*)?$")  # the last part of a path or an address, without its revision


class Lines(logging.Formatter):
    """Time and message; the level only where it is a warning or worse.

    configs/config.yaml names this class as the formatter of Hydra's handlers.
    """

    def __init__(self, fmt: str | None = None, datefmt: str | None = None, *_: Any) -> None:
        super().__init__("%(asctime)s %(message)s", datefmt or _TIME)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the first lines of a record, without its traceback."""
        level = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
        return f"{record.asctime} {level}{record.message}"


def setup_logging(log_level: str = "INFO") -> None:
    """Log this package from `log_level` on, to stderr where nobody (such as Hydra) has set up logging.

    Raises ConfigError for an unknown level; upper and lower case are the same.
    """
    log_level = str(log_level).upper()
    require(Config, "log_level", log_level)
    package = logging.getLogger("sam2vt")
    package.setLevel(log_level)
    if not package.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(Lines())
        package.addHandler(handler)


def quiet_lightning(log_level: str) -> None:
    """Leave Lightning's remarks (devices that are not used, advice to install more) to the level DEBUG.

    Call it when Lightning is imported, which sets its own level. Its warnings stay.
    """
    if logging.getLogger().handlers:
        logging.getLogger("lightning").handlers.clear()  # it would say everything twice
    shown = log_level.upper() == "DEBUG"
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO if shown else logging.WARNING)


def digits(value: float) -> str:
    """Return a number with three significant digits and all before the point: 0.0500, 12.3, 1234."""
    if 1000 <= abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:#.3g}".rstrip(".")


def opening_line(config: Config, by_ray: bool = False) -> str:
    """Return what a run says before it loads anything: its network, weights, data and folder."""
    model, data, folder = config.model, config.dataset, Path(config.output_dir).absolute()
    weights, network = "random weights", Path(model.config_path)
    # A folder for transformers names its files, which have the same names everywhere.
    network_name = network.absolute().parent.name if network.name == HF_CONFIG else network.stem
    if found := _WEIGHTS.search((model.checkpoint_path or "").removesuffix(f"/{HF_WEIGHTS}")):
        weights = found[1]
    videos = ", ".join(str(each["data_path"]) for each in data.datasets) or str(data.data_path)
    held_back = f", split={config.split}" if config.split != "none" else ""
    where = _short(folder)
    if by_ray and config.ray.storage_path:
        where = posixpath.join(config.ray.storage_path, config.ray.name or folder.name)
    return f"training {network_name} from {weights} on {videos}{held_back} into {where}"


def leave_closed_terminal() -> None:
    """Print nowhere from now on if the terminal is closed, where printing would raise OSError."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def is_first_rank() -> bool:
    """Return whether this is the only process of a run, or the first, by what a launcher has set."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in names)


def _short(folder: Path) -> str:
    """Return a folder as it is typed here: by its relative path where it is below the working directory."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if here in folder.parents else str(folder)
