"""Choose the checkpoint that a run resumes from, and check that the run may resume from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sam2vt.config import Config
from sam2vt.configuration.loading import to_dict
from sam2vt.configuration.resume import differences, remarks
from sam2vt.core.storage.fetching import expand_user
from sam2vt.core.training.checkpoints.store import DATA_STATE, CheckpointManifest, CheckpointStore
from sam2vt.errors import CheckpointError, ConfigError

log = logging.getLogger(__name__)

AUTO = "auto"


class FoundCheckpoint(NamedTuple):
    """A checkpoint file, and its manifest if it has one; the file then matches the manifest."""

    path: str  # local path or URI
    manifest: CheckpointManifest | None = None


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint that a run may resume from, with the data to plan the rest of the run."""

    path: str  # local path or URI
    step: int  # optimizer steps done
    position: Mapping[str, Any] | None  # state of our data module; None where another one was used
    # Of the file, where it had no manifest to read the above from: nobody has to read it again.
    content: dict[str, Any] | None = field(default=None, repr=False)


def checkpoint_to_resume(config: Config) -> ResumePoint | None:
    """Return where a local run of `config` resumes; None to start anew.

    Raises ConfigError if the run's folder contains checkpoints of another run, CheckpointError as
    `find_checkpoint` and `resume_point` do.
    """
    own = CheckpointStore(str(config.checkpoint_dir))
    try:
        found = find_checkpoint(config.resume, own)
        is_own = config.resume == AUTO or _lies_in(found, config.checkpoint_dir)
        is_taken = config.trainer.enable_checkpointing and not is_own and own.holds_any()
    except OSError as error:
        raise CheckpointError(
            f"resume={config.resume!r}, save_dir={str(config.checkpoint_dir)!r}: checkpoints cannot be read: "
            f"{error}; see that the storage answers, or give other folders"
        ) from error
    if is_taken:
        raise ConfigError(
            f"save_dir={str(config.checkpoint_dir)!r}: holds the checkpoints of another run, which this one "
            f"would replace. Give resume=auto to resume that run, or another output_dir for a new one"
        )
    return None if found is None else resume_point(found, config)


def find_checkpoint(resume: str | None, own: CheckpointStore) -> FoundCheckpoint | None:
    """Return the checkpoint that the setting `resume` means; None to start anew. The choice is logged.

    `auto` means the newest complete checkpoint in the store `own` of the run, if there is one. The folder of
    a run or of its checkpoints means the newest complete checkpoint in it; a file means itself. Raises
    CheckpointError for a folder without a checkpoint, OSError if the storage fails.
    """
    if resume is None:
        return None
    if resume == AUTO:
        if (newest := _newest(own, resume)) is None:
            log.warning("resume=auto: %s holds no complete checkpoint; starting from step 0", own.root)
        return newest
    is_file = resume.endswith((".ckpt", ".pt")) if "://" in resume else not Path(resume).expanduser().is_dir()
    if is_file:
        return FoundCheckpoint(resume, _manifest_of(expand_user(resume)))
    for place in (resume, f"{resume.rstrip('/')}/checkpoints"):
        if (newest := _newest(CheckpointStore(place), resume)) is not None:
            return newest
    raise CheckpointError(
        f"resume={resume!r}: there is no complete checkpoint in this folder or in its checkpoints; name "
        f"a run's folder, or a checkpoint file"
    )


def resume_point(found: FoundCheckpoint, config: Config) -> ResumePoint:
    """Check that a run of `config` may resume from a checkpoint, and return what its planning needs.

    The manifest contains this. The file is read only if there is no manifest, or one of an older version.
    Raises CheckpointError for a file that is not a training checkpoint, that contains more than plain
    tensors, or whose run had settings that give a different result.
    """
    path, manifest = found
    if manifest is not None and manifest.config is not None:
        _check_same_run(path, manifest.config, config)
        return ResumePoint(path, manifest.step, manifest.position)
    from sam2vt.core.model.checkpoints import read_checkpoint  # loads torch

    content = read_checkpoint(path)
    missing = {"state_dict", "optimizer_states", "loops", "hyper_parameters"} - content.keys()
    if missing:
        raise CheckpointError(
            f"resume={path!r}: not a training checkpoint, it has no {', '.join(sorted(missing))}; give "
            f"weights alone as model.checkpoint_path"
        )
    known = content["hyper_parameters"]
    _check_same_run(path, known.get("config") if isinstance(known, Mapping) else None, config)
    return ResumePoint(path, content.get("global_step", 0), content.get(DATA_STATE), content)


def _newest(store: CheckpointStore, resume: str) -> FoundCheckpoint | None:
    newest = store.newest()
    if newest is None:
        return None
    log.info("resume=%s: %s, step %d", resume, store.path(newest), newest.step)
    return FoundCheckpoint(store.path(newest), newest)


def _manifest_of(path: str) -> CheckpointManifest | None:
    folder, _, name = path.rpartition("/")
    try:
        return CheckpointStore(folder or ".", pauses=()).describe(name)
    except OSError as error:  # a place where single files can be read, and no folder can be listed
        log.debug("%s: taken without a manifest: %s", path, error)
        return None


def _lies_in(found: FoundCheckpoint | None, folder: Path) -> bool:
    if found is None or "://" in found.path:
        return False
    return Path(found.path).expanduser().resolve().parent == folder.resolve()


def _check_same_run(path: str, was: Any, config: Config) -> None:
    if not isinstance(was, Mapping):
        raise CheckpointError(f"resume={path!r}: holds no configuration; it was not written by sam2vt train")
    now = to_dict(config)
    different = differences(was, now)
    if different:
        raise CheckpointError(
            f"resume={path!r}: was trained with other settings: {'; '.join(different)}. Go on with its own, "
            f"or start anew from its weights with model.checkpoint_path={path!r}"
        )
    for line in remarks(was, now):
        log.warning("resume: %s", line)
