"""Which checkpoint a run goes on from, and whether its folder is free for it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2vt.config import Config
from sam2vt.configuration.loading import to_dict
from sam2vt.configuration.resume import differences, remarks
from sam2vt.core.training.checkpoints.store import CheckpointStore
from sam2vt.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    import lightning as L

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


def resume_kwargs(path: str | None, trainer: L.Trainer, config: Config | None = None) -> dict[str, Any]:
    """Arguments of `Trainer.fit` that go on from a training checkpoint; none where `path` is None.

    Raises CheckpointError for a file that is not one, or that holds more than plain tensors, and with
    `config`, the run's, for one of a run whose settings would have given another result.
    """
    if path is None:
        return {}
    from sam2vt.core.model.checkpoints import expand_user, read_checkpoint

    check_training_checkpoint(path, read_checkpoint(path), config)
    known = inspect.signature(trainer.fit).parameters  # older Lightning has no weights_only
    return {"ckpt_path": expand_user(path), **({"weights_only": True} if "weights_only" in known else {})}


def check_training_checkpoint(path: str, content: Mapping[str, Any], config: Config | None = None) -> None:
    """Raise CheckpointError where a run, that of `config` if given, cannot go on from a file's content."""
    missing = {"state_dict", "optimizer_states", "loops", "hyper_parameters"} - content.keys()
    if missing:
        raise CheckpointError(
            f"resume={path!r}: not a training checkpoint, it has no {', '.join(sorted(missing))}; give "
            f"weights alone as model.checkpoint_path"
        )
    if config is not None:
        _check_same_run(path, content["hyper_parameters"], to_dict(config))


def _check_same_run(path: str, hyper_parameters: Any, now: dict[str, Any]) -> None:
    was = hyper_parameters.get("config") if isinstance(hyper_parameters, Mapping) else None
    if not isinstance(was, Mapping):
        raise CheckpointError(f"resume={path!r}: holds no configuration; it was not written by sam2vt train")
    different = differences(was, now)
    if different:
        raise CheckpointError(
            f"resume={path!r}: was trained with other settings: {'; '.join(different)}. Go on with its own, "
            f"or start anew from its weights with model.checkpoint_path={path!r}"
        )
    for line in remarks(was, now):
        log.warning("resume: %s", line)
