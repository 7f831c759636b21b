"""What trials leave on the disk goes, but for the checkpoints of the best ones and of the unswept one."""

from __future__ import annotations

import logging
from collections.abc import Collection

from pyarrow import fs

from sam2vt.core.storage.paths import open_path
from sam2vt.distributed.cluster.storage import RAY_FOLDER, RunStorage
from sam2vt.distributed.source import RECORDS_FOLDER
from sam2vt.distributed.sweep.trials import DEFAULT, RUNNING, SweepResult, trial_name

log = logging.getLogger(__name__)

# Of a trial's folder; what is left are its curves, scores and configuration.
ALWAYS = ("inherited.ckpt", RAY_FOLDER, RECORDS_FOLDER)
HEAVY = ("checkpoints", "export", *ALWAYS)


def remove_leftovers(result: SweepResult, storage: RunStorage, keep_best: int) -> int:
    """Delete weights and Ray's files of trials that have ended and are not among the `keep_best` best.

    Returns how many files and folders there were to delete.
    """
    kept = {DEFAULT, *(trial.number for trial in result.ranked()[:keep_best])}
    ended = (trial.number for trial in result.trials if trial.status != RUNNING)
    return sum(_delete(storage, trial_name(number), ALWAYS if number in kept else HEAVY) for number in ended)


def remove_weights_in_transit(storage: RunStorage, folder: str) -> None:
    """Delete the checkpoints that trials handed to each other, below Tune's own `folder`."""
    filesystem, root = open_path(storage.join(folder))
    found = filesystem.get_file_info(fs.FileSelector(root, allow_not_found=True, recursive=True))
    for info in found:
        if info.type == fs.FileType.Directory and info.base_name.startswith("checkpoint_"):
            _try(filesystem.delete_dir, info.path)


def _delete(storage: RunStorage, trial: str, names: Collection[str]) -> int:
    filesystem, folder = open_path(storage.join("trials", trial))
    children = filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    found = [info for info in children if info.base_name in names]
    for info in found:
        is_folder = info.type == fs.FileType.Directory
        _try(filesystem.delete_dir if is_folder else filesystem.delete_file, info.path)
    return len(found)


def _try(delete: object, path: str) -> None:
    """A trial that was stopped may still be writing; the sweep's end deletes once more."""
    try:
        delete(path)  # type: ignore[operator]
    except OSError as error:
        log.debug("%s stays for now: %s", path, error)
