"""Checkpoint files from a local path, a URI or the Hugging Face hub, as local files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sam2vt.core.storage.disk import file_sha256
from sam2vt.errors import CheckpointError

HUB_PREFIX = "hf://"


def expand_user(path: str) -> str:
    """Return a local path with its ~ replaced; a URI as it is."""
    return path if "://" in path else str(Path(path).expanduser())


def checkpoint_sha256(path: str) -> str:
    """Return the SHA-256 of a checkpoint's file in hexadecimal, computed once per process.

    Raises CheckpointError where a URI cannot be read, OSError where a local file cannot.
    """
    if "://" in path:
        return _sha256_of_remote(path)
    local = expand_user(path)
    status = os.stat(local)
    return _sha256(local, status.st_size, status.st_mtime_ns)


@contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Yield `path` as a local file: a remote one is downloaded, and deleted when the block ends.

    Files of the hub stay in its own cache. Raises CheckpointError.
    """
    if path.startswith(HUB_PREFIX):
        yield _download_from_hub(path)
    elif "://" in path:
        from sam2vt.core.storage.folder import download  # pyarrow is not needed for local files

        with TemporaryDirectory(prefix="sam2vt-checkpoint-") as folder:
            local = f"{folder}/checkpoint"
            try:
                download(path, local)
            except OSError as error:
                raise CheckpointError(f"{path}: cannot be read: {first_line(error)}") from error
            yield local
    else:
        local = expand_user(path)
        if os.path.isdir(local):
            raise CheckpointError(f"{path}: is a folder; name the checkpoint file in it")
        if not os.path.isfile(local):
            raise CheckpointError(f"{path}: no such checkpoint file")
        yield local


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, at most 200 characters, for a message of ours."""
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _download_from_hub(path: str) -> str:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise CheckpointError(f"{path}: `pip install 'sam2vt[hub]'` to read from the hub") from error
    parts = path.removeprefix(HUB_PREFIX).split("/", 2)
    if len(parts) < 2:
        raise CheckpointError(
            f"{path}: write hf://<owner>/<repository>, such as hf://facebook/sam2.1-hiera-tiny"
        )
    owner, repository = parts[:2]
    # Meta's repositories name their file like themselves, but for the hyphens.
    file = parts[2] if len(parts) > 2 else f"{repository.replace('-', '_')}.pt"
    try:
        return hf_hub_download(f"{owner}/{repository}", file)
    except Exception as error:  # the hub's client raises errors of several libraries
        raise CheckpointError(f"{path}: cannot be fetched from the hub: {first_line(error)}") from error


@lru_cache(maxsize=16)
def _sha256(local: str, size: int, modified_ns: int) -> str:
    """Of the file as it was at that time: size and time are the cache's key."""
    return file_sha256(local)


@lru_cache(maxsize=16)
def _sha256_of_remote(path: str) -> str:
    with local_copy(path) as local:
        return checkpoint_sha256(local)
