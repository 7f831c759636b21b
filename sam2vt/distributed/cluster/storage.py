"""The places of a run's files: a local folder or any address that pyarrow.fs reads."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

from sam2vt.config import Config
from sam2vt.core.storage.folder import Folder
from sam2vt.errors import ConfigError

RAY_FOLDER = "ray"  # holds what Ray Train keeps of each attempt at the run


@dataclass(frozen=True)
class RunStorage:
    """Where all of a run's files are; worked out once from its configuration, by `run_storage`."""

    root: str  # the run folder: a local path or a URI
    save_dir: str | None = None  # of the checkpoints, where the configuration keeps them elsewhere

    @property
    def is_remote(self) -> bool:
        """Return whether the run folder is a URI."""
        return "://" in self.root

    @property
    def checkpoints(self) -> str:
        """Folder of the checkpoints that the run resumes from; every machine reaches it."""
        return self.save_dir or self.join("checkpoints")

    def join(self, *parts: str) -> str:
        """Return the path or URI of something in the run folder."""
        return posixpath.join(self.root, *parts)

    def folder(self, *parts: str) -> Folder:
        """Open a folder in the run folder, or the run folder itself. Raises OSError."""
        return Folder(self.join(*parts))

    def next_attempt(self) -> str:
        """Return the first unused name of an attempt: Ray Train would resume a used one unasked."""
        used = self.folder(RAY_FOLDER).sizes()
        return next(name for number in range(1, len(used) + 2) if (name := f"attempt_{number}") not in used)


def run_storage(config: Config) -> RunStorage:
    """Work out `ray.storage_path`/`ray.name`, which default to the parent and the name of `output_dir`."""
    output_dir = Path(config.output_dir).absolute()
    parent = config.ray.storage_path or str(output_dir.parent)
    if "://" not in parent:
        parent = str(Path(parent).expanduser().absolute())
    storage = RunStorage(posixpath.join(parent, config.ray.name or output_dir.name))
    if storage.is_remote or has_default_save_dir(config):
        return storage
    return replace(storage, save_dir=str(Path(config.save_dir).expanduser().absolute()))


def has_default_save_dir(config: Config) -> bool:
    """Return whether checkpoints are kept in the run folder."""
    return config.save_dir in ("", os.path.join(config.output_dir, "checkpoints"))


def check_writable(storage: RunStorage) -> None:
    """Write and remove a small file; raises ConfigError naming `ray.storage_path` where that fails."""
    marker = f".writable_{uuid4().hex}"
    try:
        folder = storage.folder()
        folder.write(marker, b"sam2vt")
        folder.delete(marker)
    except OSError as error:
        raise ConfigError(
            f"ray.storage_path: cannot write to {storage.root} ({error}); it must be a folder that every "
            "node of the cluster reaches, or an address such as s3://bucket/folder with credentials on every "
            "node"
        ) from error
