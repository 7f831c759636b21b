"""Fetch checkpoint files from a local path, a URI or the Hugging Face hub, as local files."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

from sam2vt.core.storage.disk import file_sha256
from sam2vt.errors import CheckpointError

log = logging.getLogger(__name__)

HUB_PREFIX = "hf://"
_HUB = re.compile(r"hf://(?P<owner>[^/@]+)/(?P<name>[^/@]+)(@(?P<revision>[^/]+))?(/(?P<file>.+))?")


def expand_user(path: str) -> str:
    """Return a local path with its ~ replaced; a URI as it is."""
    return path if "://" in path else str(Path(path).expanduser())


def checkpoint_sha256(path: str) -> str:
    """Return the SHA-256 of a checkpoint's file in hexadecimal, computed once per process.

    Raises CheckpointError if a URI cannot be read, OSError if a local file cannot.
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
    """Return the first line of an error's text, at most 200 characters, for our messages."""
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def pinned(path: str) -> str:
    """Return a hub's file with the current commit of its branch or tag; any other path as it is.

    The commit is logged. Raises CheckpointError if the hub does not answer.
    """
    if not path.startswith(HUB_PREFIX):
        return path
    repository, file, revision = hub_parts(path)
    if revision and re.fullmatch("[0-9a-f]{40}", revision):
        return path
    # The client's cache has a folder for each commit, .../snapshots/<commit>/<file>.
    folder = _download_from_hub(path).removesuffix(f"/{file}")
    if not folder.rpartition("/")[0].endswith("/snapshots"):
        return path
    commit = folder.rpartition("/")[2]
    log.info("%s: revision %s", path, commit)
    return f"{HUB_PREFIX}{repository}@{commit}/{file}"


def _download_from_hub(path: str) -> str:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise CheckpointError(f"{path}: `pip install 'sam2vt[hub]'` to read from the hub") from error
    repository, file, revision = hub_parts(path)
    try:
        return hf_hub_download(repository, file, revision=revision)
    except Exception as error:  # the hub's client raises errors of several libraries
        raise CheckpointError(f"{path}: cannot be fetched from the hub: {first_line(error)}") from error


def hub_parts(path: str) -> tuple[str, str, str | None]:
    """Return (owner/repository, file, revision) of a hub's address. Raises CheckpointError."""
    found = _HUB.fullmatch(path)
    if found is None:
        raise CheckpointError(
            f"{path}: write hf://<owner>/<repository>[@<revision>][/<file>], such as "
            f"hf://facebook/sam2.1-hiera-tiny; a / in a revision is written %2F"
        )
    # Meta's repositories name their file like themselves, but for the hyphens.
    file = found["file"] or f"{found['name'].replace('-', '_')}.pt"
    revision = found["revision"]
    return f"{found['owner']}/{found['name']}", file, revision and unquote(revision)


@lru_cache(maxsize=16)
def _sha256(local: str, size: int, modified_ns: int) -> str:
    """Of the file as it was at that time: size and time are the cache's key."""
    return file_sha256(local)


@lru_cache(maxsize=16)
def _sha256_of_remote(path: str) -> str:
    with local_copy(path) as local:
        return checkpoint_sha256(local)
