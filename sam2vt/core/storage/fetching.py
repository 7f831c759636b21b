"""Fetch checkpoint files from a local path, a URI or the Hugging Face hub, as local files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sam2vt.core.storage import hub
from sam2vt.core.storage.disk import file_sha256
from sam2vt.core.storage.hf_folder import is_weights, weights_of
from sam2vt.core.storage.hub import HUB_PREFIX
from sam2vt.errors import CheckpointError, first_line


def expand_user(path: str) -> str:
    """Return a local path with its ~ replaced; a URI as it is."""
    return path if "://" in path else str(Path(path).expanduser())


def checkpoint_sha256(path: str) -> str:
    """Return the SHA-256 of a checkpoint's file in hexadecimal, computed once per process.

    Raises CheckpointError if a URI cannot be read, OSError if a local file cannot.
    """
    if "://" in path:
        return _sha256_of_remote(path)
    local = expand_user(weights_of(path))
    status = os.stat(local)
    return _sha256(local, status.st_size, status.st_mtime_ns)


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Yield `path` as a local file: a remote one is downloaded, and deleted when the block ends.

    Files of the hub stay in its own cache. Raises CheckpointError.
    """
    if path.startswith(HUB_PREFIX):
        yield hub.download(path)
    elif "://" in path:
        if is_weights(path):
            raise CheckpointError(f"{path}: copy its folder to this machine, or name the .pt of an export")
        from sam2vt.core.storage.folder import download  # pyarrow is not needed for local files

        with TemporaryDirectory(prefix="sam2vt-checkpoint-") as folder:
            local = f"{folder}/checkpoint"
            try:
                download(path, local)
            except OSError as error:
                raise CheckpointError(f"{path}: cannot be read: {first_line(error)}") from error
            yield local
    else:
        local = expand_user(weights_of(path))
        if os.path.isdir(local):
            raise CheckpointError(f"{path}: is a folder; name the checkpoint file in it")
        if not os.path.isfile(local):
            raise CheckpointError(f"{path}: no such checkpoint file")
        yield local


def pinned(path: str) -> str:
    """Return the one file that a path means, which does not change: with the commit of a hub's branch.

    Of a folder in the form of transformers it is that of the weights. Raises CheckpointError.
    """
    return hub.pinned(path) if path.startswith(HUB_PREFIX) else weights_of(path)


@lru_cache(maxsize=16)
def _sha256(local: str, size: int, modified_ns: int) -> str:
    """Of the file as it was at that time: size and time are the cache's key."""
    return file_sha256(local)


@lru_cache(maxsize=16)
def _sha256_of_remote(path: str) -> str:
    with local_copy(path) as local:
        return checkpoint_sha256(local)
