"""Create the folder of a run, for this run alone, and remove it again if the run is refused."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sam2vt.composing import compose_config, literal
from sam2vt.core.storage.disk import locked, new_folder
from sam2vt.core.training.slurm import check_ranks, slurm_step
from sam2vt.errors import ConfigError, Sam2vtError
from sam2vt.logs import is_first_rank

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

_TIME = re.compile(r"\$\{now:[^}]*\}")
_LOCK = ".lock"
# What Hydra and the first lines of a run write, before anything that is of use.
_EARLY = (".hydra", "*.log", "config.yaml", "records", "tensorboard", "csv", "wandb", "loggers.json", _LOCK)
_held: set[Path] = set()  # folders that this process has reserved


@contextmanager
def alone_in(folder: Path | str) -> Iterator[None]:
    """Reserve a run's folder, created if missing, for this process; other ranks than the first share it.

    Raises ConfigError if another training has reserved it, OSError if it cannot be created.
    """
    folder = Path(folder)
    key = folder.resolve()
    if not is_first_rank() or key in _held:
        yield
        return
    taken = ConfigError(
        f"{folder}: another training is writing there; wait until it has ended, or give another output_dir"
    )
    with new_folder(folder), locked(folder / _LOCK, taken):
        _held.add(key)
        try:
            yield
        finally:
            _held.remove(key)


@contextmanager
def own_run_folder(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Create the run's folder, and yield the overrides with it; a folder named after the time is always new.

    If the run is refused, by a Sam2vtError or SystemExit with exit code 2, the folder is removed, unless it
    existed before or contains something useful. Overrides with Hydra's options, or that cannot be composed,
    stay as they are. Raises ConfigError if another run is writing there, OSError if the folder cannot be
    created.
    """
    check_ranks()
    slurm_step()  # raises now what would end the run in a folder that Hydra has made
    given = list(arguments)
    if any(each.startswith(("-", "hydra.")) for each in given):
        yield given
        return
    try:
        path, is_chosen = _folder_of(given)
    except ConfigError:  # whoever loads the overrides lists all that is wrong
        yield given
        return
    # The tasks of a SLURM step share the folder.
    alone = is_chosen and slurm_step() is None
    is_old = path.exists() and not alone
    with new_folder(path, alone=alone) as folder, alone_in(folder):
        try:
            yield [*given, f"output_dir={folder}"] if is_chosen else given
        except (SystemExit, Sam2vtError) as end:
            code = end.code if isinstance(end, SystemExit) else end.exit_code
            if code == Sam2vtError.exit_code and not is_old:
                _clear(folder)
            raise


def warn_of_new_folder(cfg: DictConfig) -> None:
    """Warn that `resume=auto` finds no run in a folder named after the time, since it is always new."""
    output_dir = _as_written(cfg)
    if cfg.get("resume") == "auto" and _TIME.search(output_dir):
        log.warning(
            "resume=auto: output_dir is %s, a new folder for each run, so nothing is ever found there; "
            "give the run's own, such as output_dir=runs/mine",
            output_dir,
        )


def _folder_of(overrides: Sequence[str]) -> tuple[Path, bool]:
    """Return the run folder, and whether it is a default that the overrides do not name."""
    named = [each.partition("=")[2] for each in overrides if each.lstrip("+").startswith("output_dir=")]
    if named and named[-1] and "${" not in named[-1]:
        return Path(literal(named[-1])), False
    composed = compose_config(overrides)
    written = _as_written(composed)
    if not _TIME.search(written):
        return Path(composed.output_dir), False
    if (step := slurm_step()) is not None:  # each task has a clock of its own
        composed.output_dir = _TIME.sub(f"job_{step.job}", written)
    else:
        warn_of_new_folder(composed)
    return Path(composed.output_dir), True


def _as_written(cfg: DictConfig) -> str:
    from omegaconf import OmegaConf

    return str(OmegaConf.to_container(cfg, resolve=False)["output_dir"])  # type: ignore[index,call-overload]


def _clear(folder: Path) -> None:
    """Empty a folder, unless it contains something useful."""
    found = list(folder.iterdir())
    if not all(any(path.match(pattern) for pattern in _EARLY) for path in found):
        return
    for path in found:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
