"""The checkpoint that a run started from: ours hold what trained and name it for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam2vt.core.model.files import checkpoint_sha256, expand_user
from sam2vt.errors import CheckpointError

BASE = "base"  # its key in a checkpoint: {"path": ..., "sha256": ...}


def describe_base(path: str) -> dict[str, str]:
    """What a checkpoint says of its base: where it lies, absolute if local, and its SHA-256."""
    where = path if "://" in path else str(Path(expand_user(path)).absolute())
    return {"path": where, "sha256": checkpoint_sha256(where)}


def find_base(content: Mapping[str, Any], path: str, base: str | None = None) -> str | None:
    """Where the base of the checkpoint `content`, read from `path`, lies; None where it has none.

    It is `base` if that is given, else at the place that the checkpoint names, else under the same name
    beside the checkpoint. Raises CheckpointError where it is not there, or is another file.
    """
    named = content.get(BASE)
    if named is None:
        return None
    remedy = (
        "Give its place with model.checkpoint_path=... (train) or --base (evaluate, export), or put it "
        "beside the checkpoint"
    )
    found = _first_that_exists([base] if base else [named["path"], _beside(path, named["path"])])
    if found is None:
        raise CheckpointError(
            f"{path}: holds only what trained, the rest is in {named['path']}, but {base or named['path']} "
            f"does not exist. {remedy}"
        )
    digest = checkpoint_sha256(found)
    if digest != named["sha256"]:
        raise CheckpointError(
            f"{path}: holds only what trained, the rest is in {named['path']} with sha256 {named['sha256']}; "
            f"{found} is another file, its sha256 is {digest}. {remedy}"
        )
    return found


def _beside(path: str, named: str) -> str:
    """The base's file name in the checkpoint's own folder."""
    folder = path if "://" in path else expand_user(path)
    return f"{folder.rpartition('/')[0] or '.'}/{named.rpartition('/')[2]}"


def _first_that_exists(places: list[str]) -> str | None:
    """A URI counts as existing: reading it says what is wrong with it."""
    return next((p for p in places if "://" in p or Path(expand_user(p)).is_file()), None)
