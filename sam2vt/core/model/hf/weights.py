"""Read and write the weights of a folder in the form of `transformers.Sam2VideoModel`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from torch import Tensor

from sam2vt.core.model.hf.names import from_transformers
from sam2vt.core.storage.hf_folder import CONFIG, read_config
from sam2vt.errors import CheckpointError, first_line
from sam2vt.health.packages import missing


def read_weights(local: Path, path: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file under SAM 2's names; `path` is its address in messages.

    Raises CheckpointError for a file of another model, and for one that cannot be read.
    """
    read_config(local.with_name(CONFIG))
    library = safetensors(path)
    try:
        state = library.load_file(local)
    except Exception as error:  # its own error is no subclass of any other
        raise CheckpointError(f"{path}: cannot be read, it may be cut off: {first_line(error)}") from error
    return from_transformers(state)


def write_weights(state: Mapping[str, Tensor], out: Path) -> None:
    """Write tensors as a safetensors file that transformers reads."""
    out.touch()
    mode = out.stat().st_mode  # safetensors leaves a file that only its owner can read
    safetensors(str(out)).save_file(dict(state), out, metadata={"format": "pt"})
    out.chmod(mode)


def safetensors(path: str) -> ModuleType:
    """Return the module that reads and writes tensors. Raises CheckpointError where it is missing."""
    if (fault := missing("safetensors")) is not None:
        raise CheckpointError(f"{path}: {fault}")
    import safetensors.torch as library

    return library
