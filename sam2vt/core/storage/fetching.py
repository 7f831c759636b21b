"""Checkpoint files from a local path, a URI or the Hugging Face hub, as local files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from functools import lru_cache
from pathlib import Path

from sam2vt.errors import CheckpointError

HUB_PREFIX = "hf://"
_CHUNK_BYTES = 1 << 22


def expand_user(path: str) -> str:
    """A local path with its ~ replaced; a URI as it is."""
    return path if "://" in path else str(Path(path).expanduser())


def checkpoint_sha256(path: str) -> str:
    """The SHA-256 of a checkpoint's file in hexadecimal, computed once a process."""
    if "://" in path:
        return _sha256_of_remote(path)
    local = Path(expand_user(path))
    status = os.stat(local)
    return _sha256(str(local), status.st_size, status.st_mtime_ns)


class local_copy:
    """A context in which `path` is a local file; a remote one is read into a temporary file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.temporary: tempfile.TemporaryDirectory | None = None

    def __enter__(self) -> str:
        if self.path.startswith(HUB_PREFIX):
            return _download_from_hub(self.path)
        if "://" in self.path:
            return self._download()
        path = Path(expand_user(self.path))
        if path.is_dir():
            raise CheckpointError(f"{self.path}: is a folder; name the checkpoint file in it")
        if not path.is_file():
            raise CheckpointError(f"{self.path}: no such checkpoint file")
        return str(path)

    def __exit__(self, *exception: object) -> None:
        if self.temporary is not None:
            self.temporary.cleanup()

    def _download(self) -> str:
        from pyarrow import fs

        self.temporary = tempfile.TemporaryDirectory(prefix="sam2vt-checkpoint-")
        target = Path(self.temporary.name) / "checkpoint"
        try:
            filesystem, inner = fs.FileSystem.from_uri(self.path)
            with filesystem.open_input_stream(inner) as source, target.open("wb") as sink:
                while chunk := source.read(_CHUNK_BYTES):
                    sink.write(chunk)
        except (OSError, ValueError) as error:
            self.temporary.cleanup()
            raise CheckpointError(f"{self.path}: cannot be read: {first_line(error)}") from error
        return str(target)


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
    file = parts[2] if len(parts) > 2 else f"{repository.replace('-', '_')}.pt"
    try:
        return hf_hub_download(f"{owner}/{repository}", file)
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be fetched from the hub: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


@lru_cache(maxsize=16)
def _sha256(local: str, size: int, modified_ns: int) -> str:
    """Of the file as it was at that time."""
    digest = hashlib.sha256()
    with open(local, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@lru_cache(maxsize=16)
def _sha256_of_remote(path: str) -> str:
    with local_copy(path) as local:
        return checkpoint_sha256(local)
