"""Which checkpoint a run goes on from, and whether its folder is free for it."""

from __future__ import annotations

import logging
from pathlib import Path

from sam2vt.config import Config
from sam2vt.core.training.checkpoint_store import CheckpointStore
from sam2vt.errors import CheckpointError, ConfigError

log = logging.getLogger(__name__)

AUTO = "auto"


def checkpoint_to_resume(config: Config) -> str | None:
    """The checkpoint file that `config.resume` means; None to start anew.

    `auto` is the newest complete one of this run's own checkpoints, if there is one. A folder, a run's or
    its checkpoints, means the newest complete one in it; a file is taken as it is. Raises ConfigError where
    another run's checkpoints lie where this run's would, CheckpointError where a folder holds none.
    """
    own = CheckpointStore(str(config.checkpoint_dir))
    if config.resume == AUTO:
        return newest_of(own)
    found = None if config.resume is None else newest_in(config.resume)
    if config.trainer.enable_checkpointing and own.holds_any() and not _lies_in(found, config.checkpoint_dir):
        raise ConfigError(
            f"save_dir={str(config.checkpoint_dir)!r}: holds the checkpoints of another run, which this one "
            f"would replace. To go on with that run give resume=auto; for a new one another output_dir"
        )
    return found


def newest_in(path: str) -> str:
    """A checkpoint file: `path` itself, or the newest complete one of a run folder or its checkpoints."""
    is_file = path.endswith((".ckpt", ".pt")) if "://" in path else not Path(path).expanduser().is_dir()
    if is_file:
        return path
    for place in (path, f"{path.rstrip('/')}/checkpoints"):
        store = CheckpointStore(place)
        newest = store.newest()
        if newest is not None:
            log.info("resume=%s: %s, step %d", path, store.path(newest), newest.step)
            return store.path(newest)
    raise CheckpointError(
        f"resume={path!r}: no complete checkpoint lies in this folder or in its checkpoints; name a run's "
        f"folder, or a checkpoint file"
    )


def newest_of(store: CheckpointStore) -> str | None:
    """What `resume=auto` goes on from in a run's own store; logged."""
    newest = store.newest()
    if newest is None:
        log.warning("resume=auto: %s holds no complete checkpoint; starting from step 0", store.root)
        return None
    log.info("resume=auto: %s, step %d", store.path(newest), newest.step)
    return store.path(newest)


def _lies_in(path: str | None, folder: Path) -> bool:
    return (
        path is not None
        and "://" not in path
        and Path(path).expanduser().resolve().parent == folder.resolve()
    )
