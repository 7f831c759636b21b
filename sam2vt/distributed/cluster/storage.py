"""Where a run's files lie: a local folder or any address that pyarrow.fs reads."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pyarrow import fs

from sam2vt.config import Config
from sam2vt.core.storage.paths import open_path, write_small_file
from sam2vt.errors import ConfigError

RAY_FOLDER = "ray"  # holds what Ray Train keeps of each attempt at the run


@dataclass(frozen=True)
class RunStorage:
    """The run folder as users address it: `root` is a local path or a URI."""

    root: str

    @property
    def is_remote(self) -> bool:
        return "://" in self.root

    def join(self, *parts: str) -> str:
        return posixpath.join(self.root, *parts)

    def upload(self, local: str | Path, *parts: str) -> None:
        """Copy a local file or folder to `parts` below the root; files there are replaced."""
        target_fs, target = open_path(self.join(*parts))
        parent = target if Path(local).is_dir() else posixpath.dirname(target)
        target_fs.create_dir(parent, recursive=True)
        fs.copy_files(str(local), target, destination_filesystem=target_fs, use_threads=False)

    def next_attempt(self) -> str:
        """The name of the first unused attempt: a used one would make Ray Train go on from it unasked."""
        filesystem, folder = open_path(self.join(RAY_FOLDER))
        selector = fs.FileSelector(folder, allow_not_found=True)
        used = {posixpath.basename(info.path) for info in filesystem.get_file_info(selector)}
        return next(name for number in range(1, len(used) + 2) if (name := f"attempt_{number}") not in used)


def run_storage(config: Config) -> RunStorage:
    """`ray.storage_path`/`ray.name`, which default to the parent and the name of `output_dir`."""
    output_dir = Path(config.output_dir).absolute()
    parent = config.ray.storage_path or str(output_dir.parent)
    if "://" not in parent:
        parent = str(Path(parent).expanduser().absolute())
    return RunStorage(posixpath.join(parent, config.ray.name or output_dir.name))


def store_root(config: Config, storage: RunStorage) -> str:
    """Where the checkpoints lie that the run goes on from: every machine reaches them."""
    return storage.join("checkpoints") if storage.is_remote else str(config.checkpoint_dir)


def check_writable(storage: RunStorage) -> None:
    """Write and remove a small file; raises ConfigError naming `ray.storage_path` where that fails."""
    marker = storage.join(f".writable_{uuid4().hex}")
    try:
        write_small_file(marker)
        filesystem, path = open_path(marker)
        filesystem.delete_file(path)
    except (OSError, ValueError, NotImplementedError) as error:
        raise ConfigError(
            f"ray.storage_path: cannot write to {storage.root} ({error}); it must be a folder that every "
            "node of the cluster reaches, or an address such as s3://bucket/folder with credentials on every "
            "node"
        ) from error
